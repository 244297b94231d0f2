"""What the policy itself makes of a few chats: tokens, greedy replies, log-probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slm_math.engines.base import Request
from slm_math.engines.transformers import TransformersEngine
from slm_math.policy.adapter_files import CONFIG
from slm_math.policy.adapters import adapter_state
from slm_math.policy.chat import ChatFormat
from slm_math.policy.export import cast
from slm_math.policy.forward import Inputs, evaluating, hidden_states, inner, language_head
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.role_paths import BASE
from slm_math.types import Chat, Reply, Sampling, assistant, system, user

NEW_TOKENS = 32
CHATS: tuple[Chat, ...] = (
    user("What is 17 * 24 - 9? Give the final answer in \\boxed{}."),
    system("You are a patient tutor.") + user("Solve $x^2 - 5x + 6 = 0$ for the larger root."),
    user("A box holds 12 eggs. How many are in 5 boxes?")
    + assistant("5 boxes hold 5 * 12 = 60 eggs. \\boxed{60}")
    + user("And after 7 of them break?"),
    system("Answer in one line.")
    + user("Is 91 prime?")
    + assistant("No, 91 = 7 * 13.")
    + user("And 97?"),
    user("  Simplify:\n\n\t3 \u00d7 (4 + 2)\u00b2, <then> {round} \u2014 na\u00efvely\n"),
)
FIXED = "12 + 30 = 42, so the answer is \\boxed{42}."


def parts_of(loaded: LoadedPolicy, folder: Path) -> dict[str, str]:
    """Subfolder of an export -> a role that speaks with what it holds; "" for the folder itself."""
    if any((folder / name).is_file() for name in ("config.json", CONFIG)):
        return {"": next(iter(loaded.adapters), "")}
    roles = [*loaded.adapters, *loaded.frozen]
    parts = {role: role for role in roles if (folder / role).is_dir()}
    at_base = [role for role, name in loaded.frozen.items() if name is None]
    if at_base and (folder / BASE).is_dir() and BASE not in parts:
        parts[BASE] = at_base[0]
    return parts


@torch.no_grad()
def expected_cases(loaded: LoadedPolicy, chat: ChatFormat, role: str) -> list[dict[str, Any]]:
    """For each of `CHATS` the messages, the text and tokens of the prompt (none where the template
    refuses it), the tokens of the chat with a reply (`whole`), the greedy reply and the fixed one
    with their log-probabilities in nats, computed in the dtype of the weights.
    """
    cases = [_case(chat, each) for each in CHATS]
    context = partial(loaded.use, role)
    engine = TransformersEngine(loaded.model, chat, slots=len(CHATS), context=context)
    greedy = Sampling(0.0, max_new_tokens=NEW_TOKENS)
    tickets = {
        engine.submit(Request(messages, greedy, role=role)): case
        for messages, case in zip(CHATS, cases, strict=True)
        if case["ids"]
    }
    while engine.busy:
        for ticket, reply in engine.poll():
            if not isinstance(reply, Reply):
                raise reply
            tickets[ticket]["reply"] = list(reply.token_ids)
            tickets[ticket]["logprobs"] = list(reply.logprobs)
    engine.release()
    with loaded.use(role) as model, evaluating(model):
        for case in tickets.values():
            case["fixed"] = [*chat.tokens(FIXED), chat.end_id]
            case["fixed_logprobs"] = _logprobs(model, case["ids"], case["fixed"])
    return cases


def _case(chat: ChatFormat, messages: Chat) -> dict[str, Any]:
    plain = chat.plain_messages((*messages, *assistant(FIXED)))
    case: dict[str, Any] = {"messages": plain[:-1], "answer": plain[-1], "text": "", "ids": []}
    try:
        case["text"], case["ids"] = chat.render(messages), chat.encode(messages)
        case["whole"] = chat.encode((*messages, *assistant(FIXED)))
    except ValueError:  # templates refuse what they do not know, such as a system's message
        case |= {"text": "", "ids": []}
    return case


def _logprobs(model: Any, prompt: list[int], reply: list[int]) -> list[float]:
    ids = torch.tensor([[*prompt, *reply]], device=model.device)
    states = hidden_states(model, Inputs.of_rows(ids))[0, len(prompt) - 1 : -1]
    table = torch.log_softmax(language_head(model)(states).float(), dim=-1)
    return table.gather(1, ids[0, len(prompt) :, None])[:, 0].tolist()


def compared_weights(
    loaded: LoadedPolicy, part: Path, role: str, dtype: str, merged: bool
) -> dict[str, Any]:
    """How many tensors of the files in a folder are the policy's, bit for bit, how many are others,
    and how many the policy does not have by that name, such as those that were merged.
    """
    from safetensors import safe_open

    counts: dict[str, Any] = {"equal": 0, "different": 0, "not compared": 0, "first": None}
    own = {} if merged and loaded.adapters else _own_weights(loaded, part, role)
    for file in sorted(part.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  it is no dictionary
                kind = "not compared"
                if name in own:
                    kept: Tensor = cast({name: own[name].detach().cpu()}, dtype)[name]
                    kind = "equal" if torch.equal(kept, opened.get_tensor(name)) else "different"
                    if kind == "different":
                        counts["first"] = counts["first"] or name
                counts[kind] += 1
    return counts


def _own_weights(loaded: LoadedPolicy, part: Path, role: str) -> Mapping[str, Tensor]:
    """The policy's weights by their names in the files of a folder."""
    adapter = loaded.adapter_of(role)
    if (part / CONFIG).is_file() and adapter is not None:
        return adapter_state(loaded.model, adapter)
    state = inner(loaded.model).state_dict()
    return {name.replace(".base_layer.", "."): value for name, value in state.items()}
