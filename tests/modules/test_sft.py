"""Supervised fine-tuning against losses computed plainly."""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from tiny import LORA, SCRATCH, SOURCE, chats, sft, trainer, watch_gradients

from slm_math.data.base import Source, Split
from slm_math.data.batches import Batches
from slm_math.data.chat_data import ChatData
from slm_math.data.rows import Row
from slm_math.modules.optim import Optim
from slm_math.modules.sft import SFTModule
from slm_math.policy.config import Policy
from slm_math.types import Chat, Text, assistant, user

SPLITS: tuple[Split, ...] = ("train", "validation")


class Watch(L.Callback):
    """Keeps the batches and the learning rates that steps were made with."""

    def __init__(self) -> None:
        self.batches: list[list[Row]] = []
        self.rates: list[float] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int
    ) -> None:
        self.batches.append(batch.items)
        self.rates.append(module.optimizers().param_groups[0]["lr"])


def one_step(
    root: Path, data: ChatData, **options: Any
) -> tuple[float, dict[str, torch.Tensor], list[Row]]:
    """Loss, gradients and rows of a first step that does not move the weights."""
    module: Any = sft(**options)
    gradients = watch_gradients(module)
    watch = Watch()
    run = trainer(root, limit_train_batches=1, limit_val_batches=0, callbacks=[watch])
    run.fit(module, data)
    return run.callback_metrics["train/loss"].item(), gradients, watch.batches[0]


def test_loss_and_gradient_do_not_depend_on_the_split(tmp_path: Path) -> None:
    loss, gradients, _ = one_step(tmp_path, chats(prompt_weight=0.2))
    for budget in (1, 150):
        other, others, _ = one_step(tmp_path, chats(prompt_weight=0.2), tokens_per_batch=budget)
        assert other == pytest.approx(loss, abs=1e-6)
        assert others.keys() == gradients.keys()
        assert all(torch.allclose(others[name], gradients[name], atol=1e-6) for name in gradients)


def padded(rows: list[Row], values: list[list[Any]], fill: Any) -> torch.Tensor:
    width = max(len(row.ids) for row in rows)
    return torch.tensor([list(v) + [fill] * (width - len(v)) for v in values])


def test_loss_and_gradient_are_those_of_transformers_with_labels(tmp_path: Path) -> None:
    loss, gradients, rows = one_step(tmp_path, chats())
    model = SCRATCH.model(SCRATCH.tokenizer())
    labels = [
        [token if weight else -100 for token, weight in zip(row.ids, row.mask)] for row in rows
    ]
    plain = model(
        input_ids=padded(rows, [row.ids for row in rows], 0),
        attention_mask=padded(rows, [[1] * len(row.ids) for row in rows], 0),
        labels=padded(rows, labels, -100),
    ).loss
    plain.backward()
    assert loss == pytest.approx(plain.item(), abs=1e-5)
    for name, parameter in model.named_parameters():
        assert torch.allclose(gradients[name], parameter.grad, atol=1e-6)


def test_prompt_weight_weighs_context_tokens(tmp_path: Path) -> None:
    loss, _, rows = one_step(tmp_path, chats(prompt_weight=0.2))
    model = SCRATCH.model(SCRATCH.tokenizer()).eval()
    above, below = 0.0, 0.0
    for row in rows:
        logps = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        for t in range(1, len(row.ids)):
            weight = 1.0 if row.mask[t] == 1 else 0.2
            above -= weight * logps[t - 1, row.ids[t]].item()
            below += weight
    assert loss == pytest.approx(above / below, abs=1e-5)


def test_only_assistant_tokens_are_loss_tokens() -> None:
    class Talk(Source):
        name = "talk"

        def dialogues(self, split: Split, prompt: str = "solve") -> list[Chat]:
            tool = Text("[ 7 ]", learn=False)
            return [
                user("3+4?")
                + assistant("I run it. ", tool, "7")
                + user("And 1 more?")
                + assistant("8")
            ]

    data, module = ChatData(Talk()), sft()
    fake: Any = type("Trainer", (), {"lightning_module": module, "is_global_zero": True})()
    data.trainer = fake
    [row] = data.tokenize("train")
    trained = list(itertools.compress(row.ids, row.mask))
    assert module.chat.tokenizer.decode(trained) == "I run it. 7<|end|>8<|end|>"


def test_validation_loss_is_the_mean_over_loss_tokens(tmp_path: Path) -> None:
    data = chats(batch_size=3)
    [logged] = trainer(tmp_path).validate(sft(tokens_per_batch=1), data, verbose=False)
    model = SCRATCH.model(SCRATCH.tokenizer()).eval()
    losses = []
    for row in data.rows["validation"]:
        logps = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        losses += [-logps[t - 1, row.ids[t]].item() for t in range(1, len(row.ids)) if row.mask[t]]
    # batches of unequal size, or several
    assert len(data.rows["validation"]) % 3 or len(data.rows["validation"]) > 3
    assert logged["val/loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)


@pytest.mark.filterwarnings("ignore:.*compute")
def test_rank_without_rows_takes_part_in_training_and_validation(tmp_path: Path) -> None:
    class Second(ChatData):
        """What the second of two ranks gets of batches of one row: nothing."""

        def train_dataloader(self) -> Batches[Row]:
            return Batches(self.rows["train"], 1, rank=1, ranks=2)

        def val_dataloader(self) -> Batches[Row]:
            return Batches(self.rows["validation"], 1, shuffle=False, rank=1, ranks=2)

    run = trainer(tmp_path, limit_train_batches=2)
    run.fit(sft(), Second(SOURCE, prompt="solve_plain"))
    assert run.global_step == 2
    assert "val/loss" in run.callback_metrics  # or the other rank would wait for this one


def test_rows_beyond_the_context_are_left_out_and_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def tokenized(context: int) -> dict[str, list[int]]:
        data, module = chats(), sft(Policy(scratch=replace(SCRATCH, context=context)))
        data.trainer = SimpleNamespace(lightning_module=module, is_global_zero=True)  # type: ignore
        return {split: [len(row.ids) for row in data.tokenize(split)] for split in SPLITS}

    whole = tokenized(512)
    assert capsys.readouterr().out == ""
    middle = sorted(whole["train"])[len(whole["train"]) // 2]
    short, said = tokenized(middle), capsys.readouterr().out
    for split, lengths in short.items():
        over = sum(length > middle for length in whole[split])
        assert 0 < over < len(whole[split])
        assert lengths == [length for length in whole[split] if length <= middle]
        assert (
            f"/{split}: {over} of {len(whole[split])} rows have more than {middle} tokens (the "
            "model's context; max_length is 1536) and are left out"
        ) in said


def test_data_of_which_nothing_fits_the_context_is_refused(tmp_path: Path) -> None:
    module = sft(Policy(scratch=replace(SCRATCH, context=5)))
    with pytest.raises(ValueError, match=r"no worked solutions to train on .of at most 5 tokens"):
        trainer(tmp_path).fit(module, chats())
    assert module.loaded is None


def test_overfitting_sees_the_same_batches_in_every_epoch(tmp_path: Path) -> None:
    watch = Watch()
    run = trainer(tmp_path, overfit_batches=2, max_epochs=3, callbacks=[watch])
    run.fit(sft(), chats(batch_size=4))
    assert watch.batches[0] != watch.batches[1]
    assert watch.batches == watch.batches[:2] * 3


def test_validation_of_a_part_is_of_the_same_part_every_time(tmp_path: Path) -> None:
    losses: list[float] = []

    class Losses(L.Callback):
        def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
            losses.append(trainer.callback_metrics["val/loss"].item())

    still = sft(optim=Optim(lr=1e-30))
    run = trainer(tmp_path, limit_val_batches=1, max_epochs=3, callbacks=[Losses()])
    run.fit(still, chats(batch_size=5, limit=10))
    assert losses == [losses[0]] * 3


def test_training_after_an_evaluation(tmp_path: Path) -> None:
    module, data, run = sft(optim=Optim(lr=1e-30)), chats(), trainer(tmp_path)
    [before] = run.validate(module, data, verbose=False)
    run.fit(module, data)
    assert run.callback_metrics["val/loss"].item() == pytest.approx(before["val/loss"])


def test_learning_rate_steps_once_an_update_and_ends_at_the_floor(tmp_path: Path) -> None:
    watch = Watch()
    module = sft(optim=Optim(lr=0.01, warmup=2, schedule="linear", floor=0.1))
    run = trainer(tmp_path, max_epochs=2, callbacks=[watch])
    run.fit(module, chats(batch_size=8))
    steps = len(watch.rates)
    assert run.global_step == steps == 2 * (len(SOURCE.dialogues("train")) // 8)
    want = [0.005, 0.01] + [0.01 * (0.1 + 0.9 * (1 - k / (steps - 2))) for k in range(steps - 2)]
    assert watch.rates == pytest.approx(want)
    assert module.optimizers().param_groups[0]["lr"] == pytest.approx(0.001)


@pytest.mark.parametrize(
    "policy", [Policy(scratch=SCRATCH), Policy(scratch=SCRATCH, lora=LORA)], ids=["full", "lora"]
)
def test_loss_falls(policy: Policy, tmp_path: Path) -> None:
    losses: list[float] = []

    class Losses(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            losses.append(trainer.callback_metrics["train/loss"].item())

    trainer(tmp_path, max_epochs=4, callbacks=[Losses()]).fit(sft(policy), chats())
    assert losses[-1] < losses[0] - 0.05


def test_speed_is_logged(tmp_path: Path) -> None:
    run = trainer(tmp_path, limit_train_batches=1)
    run.fit(sft(), chats())
    assert run.callback_metrics["train/tokens_per_second"] > 0
    assert run.callback_metrics["train/skipped_updates"] == 0


def test_rows_longer_than_max_length_are_left_out_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, data = chats(), chats()
    trainer(tmp_path, limit_train_batches=0).fit(sft(), whole)
    lengths = sorted(len(row.ids) for row in whole.rows["train"])
    data.max_length = lengths[len(lengths) // 2]
    trainer(tmp_path, limit_train_batches=0).fit(sft(), data)
    kept = [length for length in lengths if length <= data.max_length]
    assert sorted(len(row.ids) for row in data.rows["train"]) == kept
    assert f"{len(lengths) - len(kept)} of {len(lengths)} rows" in capsys.readouterr().out


def test_fp16_is_refused(tmp_path: Path) -> None:
    module = SFTModule(Policy(scratch=SCRATCH))
    module._trainer = type("Trainer", (), {"precision": "16-mixed", "strategy": "ddp"})()
    with pytest.raises(ValueError, match="bf16-mixed"):
        module.setup("fit")
