"""ExportHF: what others load is the model that was trained."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from modules.two_roles import adapter, replies
from tiny import (
    SCRATCH,
    Duo,
    Even,
    chats,
    grpo,
    model_folder,
    problems,
    sft,
    trainer,
)

from slm_math.callbacks import ExportHF
from slm_math.engines.base import EngineError, Request
from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.modules.optim import Optim
from slm_math.policy.config import Lora, Policy
from slm_math.policy.export import export_policy, layout_of
from slm_math.policy.loading import load_model
from slm_math.policy.role_paths import exported_roles, role_path
from slm_math.types import Sampling, user


def prompts(role: str = "solver") -> list[Request]:
    greedy = Sampling(0.0, max_new_tokens=8)
    return [
        Request(user(f"Mina has {n} beads and finds {n} more."), greedy, role=role)
        for n in range(2, 8)
    ]


def greedy(
    module: Any, engine: Any = None, role: str = "solver"
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(prompt, reply) ids of the module's engine."""
    engine = engine or module.engines()["solver"]
    tickets = [engine.submit(request) for request in prompts(role)]
    found: dict[int, Any] = {}
    while engine.busy:
        found |= dict(engine.poll())
    return [(found[ticket].prompt_ids, found[ticket].token_ids) for ticket in tickets]


def generated(
    model: Any, pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]
) -> list[tuple[int, ...]]:
    """What plain `generate` says to the same prompts."""
    replies = []
    for prompt, reply in pairs:
        ids = torch.tensor([prompt])
        options = {
            "attention_mask": torch.ones_like(ids),
            "do_sample": False,
            "max_new_tokens": len(reply),
        }
        replies.append(tuple(model.generate(ids, **options)[0, len(prompt) :].tolist()))
    return replies


class Failing(L.Callback):
    """An evaluation that ends the run."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, self.fail)

    def fail(self, *_: Any) -> None:
        raise RuntimeError("no engine for this")


@pytest.mark.parametrize(
    "hook", ["on_train_batch_end", "on_validation_start", "on_train_epoch_end"]
)
def test_export_is_written_before_an_evaluation_that_fails(hook: str, tmp_path: Path) -> None:
    fit = trainer(tmp_path, callbacks=[Failing(hook), ExportHF(check=False)], limit_train_batches=1)
    module = sft()
    with pytest.raises(RuntimeError, match="no engine"):
        fit.fit(module, datamodule=chats())
    exported = load_model(str(tmp_path / "export"))
    assert torch.equal(
        exported.get_input_embeddings().weight, module.model.get_input_embeddings().weight
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("lora", [None, Lora(r=4)], ids=["full", "merged adapter"])
def test_full_export_is_the_trained_model(lora: Lora | None, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    module = sft(Policy(scratch=SCRATCH, lora=lora))
    trainer(tmp_path, callbacks=[ExportHF(check=False)]).fit(module, chats())
    pairs = greedy(module)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    assert generated(model, pairs) == [reply for _, reply in pairs]
    assert model.config.use_cache
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "export")
    chat = [{"role": "user", "content": prompts()[0].chat[0].text}]
    asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)[
        "input_ids"
    ]
    assert tuple(asked) == pairs[0][0]


def test_bfloat16_export_halves_the_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    module = sft()
    trainer(
        tmp_path, limit_train_batches=1, callbacks=[ExportHF(dtype="bfloat16", check=False)]
    ).fit(module, chats())
    saved = load_file(tmp_path / "export" / "model.safetensors")
    for name, value in module.model.named_parameters():
        assert torch.equal(saved[name], value.detach().bfloat16())
    assert "lm_head.weight" not in saved  # tied to the embedding, in the file as in memory


def test_adapter_export_is_loaded_by_peft_and_trained_further(base: Path, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    module = sft(Policy(path=str(base), lora=Lora(r=4)))
    trainer(tmp_path, callbacks=[ExportHF(check=False)]).fit(module, chats())
    pairs = greedy(module)
    folder = tmp_path / "export"
    assert (folder / "adapter_config.json").is_file()
    assert not list(folder.glob("model*.safetensors"))
    assert generated(AutoPeftModelForCausalLM.from_pretrained(folder), pairs) == [
        reply for _, reply in pairs
    ]
    further = sft(Policy(path=str(folder)))
    trainer(tmp_path / "further", limit_train_batches=0).fit(further, chats())
    assert greedy(further) == pairs


def test_each_role_is_exported_on_its_own(base: Path, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    module = grpo(
        Policy(path=str(base), lora=Lora(r=4, dropout=0.0)),
        agent=Duo(),
        rewards=[Even(), Even(role="judge")],
        train_roles=("solver", "judge"),
    )
    trainer(tmp_path, callbacks=[ExportHF(check=False)]).fit(module, problems())
    for role in ("solver", "judge"):
        pairs = greedy(module, module.engines()[role])
        model = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "export" / role)
        assert generated(model, pairs) == [reply for _, reply in pairs]


def test_each_role_of_a_model_from_scratch_is_exported_beside_its_base(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    module = grpo(
        Policy(scratch=SCRATCH, lora=Lora(r=4, dropout=0.0)),
        agent=Duo(),
        rewards=[Even(), Even(role="judge")],
        train_roles=("solver", "judge"),
        optim=Optim(lr=0.05, warmup=0),
    )
    trainer(tmp_path, callbacks=[ExportHF(check=False)]).fit(module, problems())
    moved = (tmp_path / "export").rename(tmp_path / "moved")
    base = AutoModelForCausalLM.from_pretrained(moved / "base")
    exported = PeftModel.from_pretrained(base, moved / "solver", adapter_name="solver")
    exported.load_adapter(moved / "judge", "judge")
    ours = CheckpointEngine(str(moved))
    replies = []
    for role in ("solver", "judge"):
        pairs = greedy(module, module.engines()[role], role)
        exported.set_adapter(role)
        assert generated(exported, pairs) == [reply for _, reply in pairs]
        assert greedy(module, ours, role) == pairs
        replies.append(pairs)
    assert replies[0] != replies[1]


@pytest.mark.parametrize("scratch", [False, True], ids=["folder", "scratch"])
def test_frozen_roles_keep_their_own_weights_in_the_export(
    scratch: bool, base: Path, tmp_path: Path
) -> None:
    """Of one trained role, the export is still of all: it serves none with another's weights."""
    policy = Policy(
        path=None if scratch else str(base), scratch=SCRATCH if scratch else None, lora=Lora(r=2)
    )
    frozen = {"critic": "base"}
    if not scratch:
        frozen["judge"] = str(adapter(base, tmp_path / "judge", 5))
    loaded = policy.load(frozen=frozen)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter += 0.3
    export_policy(loaded, policy.chat(), tmp_path / "new", **layout_of(policy, loaded))
    export = str((tmp_path / "new").rename(tmp_path / "export"))
    plain = f"{export}/base" if scratch else str(base)
    alone = {"solver": f"{export}/solver", "critic": plain}
    if not scratch:
        alone["judge"] = str(tmp_path / "judge")
    engine = CheckpointEngine(export)
    said = {role: replies(engine, role) for role in alone}
    assert said == {role: replies(CheckpointEngine(path), role) for role, path in alone.items()}
    assert len({str(each) for each in said.values()}) == len(alone)
    with pytest.raises(EngineError, match="no adapter serves role 'verifier'"):
        replies(engine, "verifier")
    # what training may start from, and what a role may be frozen at
    assert Policy(path=export).path == {r: f"{export}/{r}" for r in alone if r != "critic"}
    assert role_path(export, "critic", "frozen.critic") == plain


@pytest.mark.parametrize("scratch", [False, True], ids=["folder", "scratch"])
def test_merged_export_has_the_model_of_a_role_at_the_base(
    scratch: bool, base: Path, tmp_path: Path
) -> None:
    own: dict[str, Any] = {"scratch": SCRATCH} if scratch else {"path": str(base)}
    policy = Policy(**own, lora=Lora(r=2))
    loaded = policy.load(frozen={"critic": "base"})
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter += 0.3
    export_policy(loaded, policy.chat(), tmp_path / "export", merge=True)
    assert sorted(each.name for each in (tmp_path / "export").iterdir()) == ["critic", "solver"]
    plain = Policy(**own).load().model.state_dict()
    saved = load_model(str(tmp_path / "export" / "critic")).state_dict()
    assert saved.keys() == plain.keys()
    assert all(torch.equal(saved[name], plain[name]) for name in plain)
    merged = load_model(str(tmp_path / "export" / "solver")).state_dict()
    assert not all(torch.equal(merged[name], plain[name]) for name in plain)


def test_file_of_roles_that_no_export_wrote_is_refused(base: Path, tmp_path: Path) -> None:
    adapter(base, tmp_path / "solver", 5)
    for text in ("{", "[]", '{"judge": "elsewhere"}'):
        (tmp_path / "roles.json").write_text(text)
        with pytest.raises(ValueError, match=r"roles\.json (is not JSON|must name roles)"):
            exported_roles(str(tmp_path))


def test_exported_config_is_the_same_in_every_process(base: Path, tmp_path: Path) -> None:
    """peft keeps the names of layers in a set, whose order is another in each."""
    names = [f"{name}_proj" for name in ("v", "up", "q", "o", "k", "gate", "down")]
    adapter(base, tmp_path / "a", 0, targets=tuple(names))
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(names)


def test_export_leaves_training_as_it_was(tmp_path: Path) -> None:
    module = sft(Policy(scratch=SCRATCH, lora=Lora(r=4)))
    trainer(tmp_path, limit_train_batches=1, callbacks=[ExportHF(check=False)]).fit(module, chats())
    learning = {name for name, p in module.model.named_parameters() if p.requires_grad}
    assert learning == set(module.loaded.trainable)
    assert not module.model.config.use_cache


@pytest.mark.parametrize("lora", [None, Lora(r=4)], ids=["full", "adapter"])
def test_export_stops_at_the_end_of_turn_that_was_trained(
    lora: Lora | None, base: Path, tmp_path: Path
) -> None:
    """The template's end of turn is <|im_end|>, which neither the tokenizer nor the base model
    calls an end.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(base),
        AutoTokenizer.from_pretrained(base),
    )
    old = tokenizer.eos_token_id
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    model.resize_token_embeddings(len(tokenizer))
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "base")
    module = sft(Policy(path=str(tmp_path / "base"), lora=lora, chat_template="chatml"))
    trainer(tmp_path, limit_train_batches=1, callbacks=[ExportHF(check=False)]).fit(module, chats())
    end = module.chat.end_id
    assert end == tokenizer.convert_tokens_to_ids("<|im_end|>") != old
    # the live ones stay
    assert module.chat.tokenizer.eos_token_id == module.model.config.eos_token_id == old
    folder = tmp_path / "export"
    assert GenerationConfig.from_pretrained(folder).eos_token_id == sorted([old, end])
    assert AutoTokenizer.from_pretrained(folder).eos_token == "<|im_end|>"
    if lora is None:
        exported = AutoModelForCausalLM.from_pretrained(folder)
        assert exported.config.eos_token_id == sorted([old, end])
        always = torch.tensor([end])
        exported.lm_head.register_forward_hook(
            lambda head, given, logits: logits.index_fill(-1, always, 99.0)
        )
        generated = exported.generate(torch.tensor([[5, 6]]), do_sample=False, max_new_tokens=5)
        assert generated[0].tolist() == [5, 6, end]
