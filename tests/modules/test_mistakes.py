"""Errors name what is wrong: foreign checkpoints, divergence, ids that occur twice, exports that
would not stop.
"""

from pathlib import Path

import pytest
import torch
from tiny import SCRATCH, SOURCE, chats, grpo, sft, trainer
from transformers import AutoModelForCausalLM, AutoTokenizer

from slm_math.callbacks import ExportHF
from slm_math.data.base import Split
from slm_math.data.problem_data import ProblemData
from slm_math.modules.optim import Optim
from slm_math.policy.config import Lora, Policy
from slm_math.policy.scratch import Scratch
from slm_math.types import Task


@pytest.mark.parametrize(
    "policy",
    [Policy(scratch=Scratch(hidden=32, layers=3, ffn=64)), Policy(scratch=SCRATCH, lora=Lora(r=4))],
)
def test_checkpoint_of_another_policy_is_refused(policy: Policy, tmp_path: Path) -> None:
    first = trainer(tmp_path, limit_train_batches=1)
    first.fit(sft(), chats())
    first.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="of another policy"):
        trainer(tmp_path, max_epochs=2).fit(sft(policy), chats(), ckpt_path=tmp_path / "a.ckpt")


def test_divergence_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="diverged"):
        trainer(tmp_path).fit(sft(optim=Optim(lr=1e30, warmup=0)), chats())
    assert "the gradient is not finite" in capsys.readouterr().out


def test_ids_that_occur_twice_are_refused(tmp_path: Path) -> None:
    class Twice(type(SOURCE)):
        def tasks(self, split: Split) -> list[Task]:
            return super().tasks(split) * 2

    with pytest.raises(ValueError, match="occur twice"):
        trainer(tmp_path).fit(grpo(), ProblemData(Twice(train=8), batch_size=4))


def test_gradient_checkpointing_stays_on_when_an_adapter_is_continued(tmp_path: Path) -> None:
    base = SCRATCH.model(SCRATCH.tokenizer())
    base.save_pretrained(tmp_path / "base")
    SCRATCH.tokenizer().save_pretrained(tmp_path / "base")
    lora = Policy(path=str(tmp_path / "base"), lora=Lora(r=4))
    trainer(tmp_path, limit_train_batches=1, callbacks=[ExportHF(check=False)]).fit(
        sft(lora), chats()
    )
    policy = Policy(path=str(tmp_path / "export"), gradient_checkpointing=True)
    again = policy.load()
    policy.keep_reference(again)
    assert again.reference_model == "copies"
    assert again.model.training


def test_export_stops_where_training_stopped(tmp_path: Path) -> None:
    """A base model whose own EOS is not what its template ends a turn with (as Qwen2.5-Math's)."""
    tokenizer = SCRATCH.tokenizer()
    model = SCRATCH.model(tokenizer)
    tokenizer.eos_token = "<|pad|>"
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    module = sft(Policy(path=str(tmp_path / "base")))
    trainer(tmp_path, limit_train_batches=1, callbacks=[ExportHF(check=False)]).fit(module, chats())
    end = module.chat.end_id
    assert end != model.config.eos_token_id
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    with torch.no_grad():  # a model that wants to end the turn at once
        exported.get_output_embeddings().weight[:] = 0
        exported.get_output_embeddings().weight[end] = 1e-9
        exported.model.norm.weight.fill_(0)
    assert end in exported.generation_config.eos_token_id
    assert AutoTokenizer.from_pretrained(tmp_path / "export").eos_token == "<|end|>"
    assert module.chat.tokenizer.eos_token == "<|pad|>"


def test_a_trained_role_without_a_reward_is_refused() -> None:
    with pytest.raises(ValueError, match="role 'solver' is trained but has no reward"):
        grpo(rewards=[])
