"""`plain` with vLLM, which loads the same folders: `python -P plain_vllm.py REQUEST RESULT`. It
imports nothing of slm-math.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from typing import Any

ROOM = 16  # tokens beside prompt and reply


def main(request: str, result: str) -> None:
    """Reads what is asked, and writes what was found."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    with open(request, encoding="utf-8") as file:
        asked = json.load(file)
    found = [answers(part, asked["new_tokens"]) for part in asked["parts"]]
    with open(result + ".new", "w", encoding="utf-8") as file:
        json.dump({"versions": {"vllm": version("vllm")}, "parts": found}, file)
    os.replace(result + ".new", result)


def answers(part: dict[str, Any], new_tokens: int) -> list[dict[str, Any]]:
    """What the model of one folder makes of the policy's prompts, whose tokens are given."""
    import torch
    from transformers import GenerationConfig
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    stops = GenerationConfig.from_pretrained(part["folder"]).eos_token_id
    stops = stops if isinstance(stops, list) else [stops]
    asked = [case for case in part["cases"] if case["ids"]]
    longest = max((len(c["ids"]) + len(c["reply"]) + len(c["fixed"]) for c in asked), default=0)
    options: dict[str, Any] = {"dtype": "bfloat16" if torch.cuda.is_available() else "float32"}
    if not torch.cuda.is_available():
        options |= {"kv_cache_memory_bytes": 2**28, "max_num_batched_tokens": 8192}
    adapter = None
    if part["base"]:
        adapter = LoRARequest("export", 1, part["folder"])
        options |= {"enable_lora": True, "max_lora_rank": rank_of(part["folder"]), "max_loras": 1}
    llm = LLM(
        model=part["base"] or part["folder"],
        tokenizer=part["folder"],
        max_model_len=longest + new_tokens + ROOM,
        max_num_seqs=len(asked) or 1,
        enforce_eager=True,
        enable_prefix_caching=False,
        enable_chunked_prefill=False,
        generation_config="vllm",
        seed=0,
        **options,
    )

    def run(prompts: list[list[int]], **settings: Any) -> list[Any]:
        sampling = SamplingParams(temperature=0.0, detokenize=False, **settings)
        given: Any = [{"prompt_token_ids": ids} for ids in prompts]
        return llm.generate(given, sampling, lora_request=adapter, use_tqdm=False)

    prompts = [case["ids"] for case in asked]
    greedy = run(prompts, max_tokens=new_tokens, stop_token_ids=stops)
    kinds = {}
    for kind in ("reply", "fixed"):
        whole = [[*case["ids"], *case[kind]] for case in asked]
        scored = run(whole, max_tokens=1, prompt_logprobs=1)
        kinds[kind] = [
            tables(each.prompt_logprobs, ids, len(case["ids"]))
            for each, ids, case in zip(scored, whole, asked, strict=True)
        ]
    made = {}
    for number, case in enumerate(asked):
        own, best = kinds["reply"][number]
        made[id(case)] = {
            "refused": None,
            **{name: case[name] for name in ("text", "ids", "whole")},
            "reply": list(greedy[number].outputs[0].token_ids),
            "logprobs": own,
            "best": best,
            "fixed": kinds["fixed"][number][0],
        }
    return [made.get(id(case), {"refused": "not asked"}) for case in part["cases"]]


def rank_of(folder: str) -> int:
    """The smallest of the ranks that vLLM knows that fits an adapter."""
    with open(os.path.join(folder, "adapter_config.json"), encoding="utf-8") as file:
        rank = json.load(file)["r"]
    return next(bound for bound in (8, 16, 32, 64, 128, 256, 320, 512) if bound >= rank)


def tables(found: Any, ids: list[int], start: int) -> tuple[list[float], list[float]]:
    """The log-probability of each token from `start` on, and of the likeliest in its place."""
    own = [found[at][ids[at]].logprob for at in range(start, len(ids))]
    best = [max(each.logprob for each in found[at].values()) for at in range(start, len(ids))]
    return own, best


if __name__ == "__main__":
    main(*sys.argv[1:])
