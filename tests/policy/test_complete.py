"""A model folder that lacks something is refused, in a line that names it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny import SCRATCH, model_folder
from torch import Tensor

from slm_math.policy.config import Policy
from slm_math.policy.loading import check_path, load_model, load_tokenizer


def changed(
    folder: Path, change: Callable[[dict[str, Tensor]], None], adapter: bool = False
) -> str:
    file = folder / ("adapter_model.safetensors" if adapter else "model.safetensors")
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})
    return str(folder)


def without_a_layer(weights: dict[str, Tensor]) -> None:
    for name in [name for name in weights if "layers.1." in name]:
        del weights[name]


def adapter_of(base: Path, folder: Path) -> Path:
    lora = LoraConfig(target_modules=["v_proj"], task_type="CAUSAL_LM")
    model = SCRATCH.model(SCRATCH.tokenizer())
    model.name_or_path = model.config._name_or_path = str(base)
    get_peft_model(model, lora).save_pretrained(folder)
    SCRATCH.tokenizer().save_pretrained(folder)
    return folder


def test_missing_weights_are_counted_and_named(tmp_path: Path) -> None:
    path = changed(model_folder(tmp_path / "m"), without_a_layer)
    for load in (load_model, lambda path: Policy(path=path).load()):
        with pytest.raises(
            ValueError, match=r"lack 12 weights.*layers\.1\.input_layernorm\.weight"
        ):
            load(path)


def test_tied_weights_are_not_missing(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    load_model(str(folder))


def test_missing_weights_of_an_adapter_and_of_its_base_are_found(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    whole = str(adapter_of(base, tmp_path / "adapter"))
    load_model(whole)
    part = changed(Path(shutil.copytree(whole, tmp_path / "part")), without_a_layer, adapter=True)
    for load in (load_model, lambda path: Policy(path=path).load()):
        with pytest.raises(ValueError, match=r"adapter \S+part is incomplete: .* lack 2 weights"):
            load(part)
    changed(base, without_a_layer)
    for load in (load_model, lambda path: Policy(path=path).load()):
        with pytest.raises(ValueError, match=r"model \S+base is incomplete: .* lack 12 weights"):
            load(whole)


def test_weights_of_another_shape_are_named_with_both_shapes(tmp_path: Path) -> None:
    def narrow(weights: dict[str, Tensor]) -> None:
        weights["model.layers.0.mlp.down_proj.weight"] = torch.zeros(32, 40)

    path = changed(model_folder(tmp_path / "m"), narrow)
    with pytest.raises(
        ValueError, match=r"0\.mlp\.down_proj\.weight: 32 x 40 .*, 32 x 64 in the m"
    ):
        load_model(path)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = changed(
        model_folder(tmp_path / "m"), lambda all: all["model.norm.weight"].fill_(torch.nan)
    )
    with pytest.raises(ValueError, match=r"model\.norm\.weight holds NaN"):
        load_model(path)


def test_weights_that_the_model_has_not_are_a_warning(tmp_path: Path) -> None:
    path = changed(model_folder(tmp_path / "m"), lambda all: all.update(spare=torch.ones(2)))
    with pytest.warns(UserWarning, match="not used: spare"):
        load_model(path)


@pytest.mark.parametrize("kept", [(), ("tokenizer_config.json",)])
def test_folder_without_a_tokenizer_is_refused(kept: tuple[str, ...], tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    for file in [*folder.glob("tokenizer*"), *folder.glob("chat_template*")]:
        if file.name not in kept:
            file.unlink()
    with pytest.raises(ValueError, match=r"m has no tokenizer that can be used.*tokenizer\.json"):
        Policy(path=str(folder)).chat()


def test_tokenizer_with_more_tokens_than_rows_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    tokenizer = load_tokenizer(str(folder))
    rows = len(tokenizer)
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match=f"has {rows + 2} tokens, and its embedding {rows} rows"):
        load_tokenizer(str(folder))


def test_embedding_with_spare_rows_is_taken(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    model = load_model(str(folder))
    model.resize_token_embeddings(len(SCRATCH.tokenizer()) + 37)
    model.save_pretrained(folder)
    assert len(load_tokenizer(str(folder))) == len(SCRATCH.tokenizer())


def test_checkpoint_named_as_model_leads_to_the_export(tmp_path: Path) -> None:
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(
        ValueError, match=r"last\.ckpt is a trainer's checkpoint.* slm-math export write$"
    ):
        check_path(str(file))
    export = model_folder(tmp_path / "run" / "export")
    for wrong in (file, file.parent, tmp_path / "run"):
        with pytest.raises(ValueError, match=f": name {export}$"):
            check_path(str(wrong))


def test_export_of_several_roles_names_them(tmp_path: Path) -> None:
    for role in ("solver", "verifier"):
        model_folder(tmp_path / "export" / role)
    with pytest.raises(ValueError, match=r": name \S+export/solver or \S+export/verifier$"):
        check_path(str(tmp_path / "export"))


def test_special_token_that_nothing_writes_needs_no_row(tmp_path: Path) -> None:
    """Gemma 3's text models share a tokenizer with models that read images."""
    folder = model_folder(tmp_path / "m")
    tokenizer = load_tokenizer(str(folder))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image_soft>"]})
    tokenizer.save_pretrained(folder)
    assert len(load_tokenizer(str(folder))) == load_model(str(folder)).config.vocab_size + 1
    chat = Policy(path=str(folder)).chat()
    rows = load_model(str(folder)).config.vocab_size
    assert max(chat.tokens(chat.neutral("<image_soft>"))) < rows
    tokenizer.add_tokens(["apple"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match="and its embedding"):
        load_tokenizer(str(folder))
