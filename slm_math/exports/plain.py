"""A program that loads exported models as any user of transformers and peft does, and says what
they make of prompts. It runs in a process of its own, from the path of this file, and imports
nothing of slm-math: `python -P plain.py REQUEST.json RESULT.json`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors")


def main(request: str, result: str) -> None:
    """Reads what is asked, and writes what was found."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    with open(request, encoding="utf-8") as file:
        asked = json.load(file)
    found = look(asked)
    with open(result + ".new", "w", encoding="utf-8") as file:
        json.dump(found, file)
    os.replace(result + ".new", result)


def look(asked: dict[str, Any]) -> dict[str, Any]:
    """What is found in the folders of all parts, and with which versions."""
    parts = asked["parts"]
    return {
        "versions": versions(),
        "parts": [answers(part, asked) for part in parts],
        "ends": [ends(part["folder"]) for part in parts],
    }


def versions() -> dict[str, str]:
    """The versions of what loads the model."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def ends(folder: str) -> list[int]:
    """The ids of the tokens that end a reply."""
    import transformers

    named = transformers.GenerationConfig.from_pretrained(folder).eos_token_id
    return sorted(named if isinstance(named, list) else [] if named is None else [named])


def answers(part: dict[str, Any], asked: dict[str, Any]) -> list[dict[str, Any]]:
    """What the model of one folder makes of each case."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(part["folder"])
    read = [rendered(tokenizer, case, part, asked) for case in part["cases"]]
    model = load(part)
    stops = transformers.GenerationConfig.from_pretrained(part["folder"])
    # without what else a base model's file may ask for, such as a penalty for repetitions
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=stops.eos_token_id, pad_token_id=stops.pad_token_id
    )
    for case, one in zip(part["cases"], read, strict=True):
        if one["refused"] is None and case["ids"]:
            one |= spoken(
                model, one["ids"], case, banned=part["banned"], new_tokens=asked["new_tokens"]
            )
    return read


def rendered(
    tokenizer: Any, case: dict[str, Any], part: dict[str, Any], asked: dict[str, Any]
) -> dict[str, Any]:
    """A chat as text and tokens by the folder's own template, as a prompt and with a reply."""
    from jinja2 import TemplateError

    options = dict(asked["variables"])
    if part["before_template"]:
        options["chat_template"] = part["before_template"] + tokenizer.get_chat_template()
    prompt, whole = case["messages"], [*case["messages"], case["answer"]]
    try:
        text = tokenizer.apply_chat_template(
            prompt, tokenize=False, add_generation_prompt=True, **options
        )
        prompt_ids, whole_ids = (
            tokenizer.apply_chat_template(
                chat, tokenize=True, return_dict=True, add_generation_prompt=open_, **options
            )["input_ids"]
            for chat, open_ in ((prompt, True), (whole, False))
        )
    except TemplateError as error:
        return {"refused": str(error)}
    return {"refused": None, "text": text, "ids": list(prompt_ids), "whole": list(whole_ids)}


def load(part: dict[str, Any]) -> Any:
    """The model of a folder in fp32, or its adapter on its base."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    auto = AutoModelForImageTextToText if part["eyes"] else AutoModelForCausalLM
    base = part["base"] or part["folder"]
    model: Any = auto.from_pretrained(base, dtype=torch.float32)
    if part["base"]:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, part["folder"], torch_device="cpu")
    return model.eval()


def spoken(
    model: Any, prompt: list[int], case: dict[str, Any], banned: list[int], new_tokens: int
) -> dict[str, Any]:
    """The greedy reply, and log-probabilities in nats of the policy's own and of a fixed one."""
    import torch

    ids = torch.tensor([prompt])
    with torch.no_grad():
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=new_tokens,
            **({"suppress_tokens": banned} if banned else {}),
        )
        own, best = scores(model, prompt, case["reply"], banned)
        fixed, _ = scores(model, prompt, case["fixed"], banned)
    reply = made[0, len(prompt) :].tolist()
    return {"reply": reply, "logprobs": own, "best": best, "fixed": fixed}


def scores(
    model: Any, prompt: list[int], reply: list[int], banned: list[int]
) -> tuple[list[float], list[float]]:
    """The log-probability of each token of a reply, and of the likeliest token in its place."""
    import torch

    if not reply:
        return [], []
    ids = torch.tensor([[*prompt, *reply]])
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].float()
    logits[:, banned] = -torch.inf
    table = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
    own = table.gather(1, torch.tensor(reply)[:, None])[:, 0]
    return own.tolist(), table.max(dim=-1).values.tolist()


if __name__ == "__main__":
    main(*sys.argv[1:])
