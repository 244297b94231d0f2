"""Log-probabilities of given tokens by `vllm serve`."""

from __future__ import annotations

import pytest
import torch
from engines.vllm_endpoint import GENERATE, serving

from slm_math.engines.base import EngineError, ModelError
from slm_math.engines.vllm_scores import PromptScores, parse_prompt

SEQUENCES = [[5, 9, 11, 300, 7], [8, 8, 8], [301, 302, 303, 304, 305, 306]]


def test_scores_are_those_of_the_served_model() -> None:
    with serving(2) as servers:
        scorer = PromptScores([server.url for server in servers])
        seen: list[tuple[int, int]] = []
        found = scorer.scores(SEQUENCES, lambda done, total: seen.append((done, total)))
        assert scorer.context == servers[0].context
        assert all(server.bodies() for server in servers)  # both were asked
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for ids, (logps, hits) in zip(SEQUENCES, found, strict=True):
        logits = servers[0].model(input_ids=torch.tensor([ids])).logits[0, :-1]
        want = logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None]).squeeze(1)
        assert torch.allclose(torch.tensor(logps), want, atol=1e-5)
        assert hits == (logits.argmax(-1) == torch.tensor(ids[1:])).tolist()


def test_server_that_fails_for_a_while_is_asked_again_and_one_that_is_gone_ends_the_run() -> None:
    with serving() as [server]:
        scorer = PromptScores([server.url], patience=30)
        server.faults[GENERATE] = [(503, {"error": "busy"}), "hang up"]
        [(logps, _)] = scorer.scores(SEQUENCES[:1])
        assert len(logps) == 4
        scorer.patience = 0.2
        server.kill()
        with pytest.raises(EngineError, match="no server of the teacher answers") as caught:
            scorer.scores(SEQUENCES[:1])
        assert "\n" not in str(caught.value)


def test_servers_of_different_models_are_refused() -> None:
    with (
        serving() as [one],
        serving(root="/models/other") as [other],
        pytest.raises(ValueError, match="serve different models: /models/other, /models/tiny"),
    ):
        PromptScores([one.url, other.url]).connect()


ANSWERS = {
    "none": {"choices": []},
    "short": {"prompt_logprobs": [None, {"9": {"logprob": -1.0, "rank": 1}}]},
    "other token": {"prompt_logprobs": [None, {"8": {"logprob": -1.0}}, {"3": {"logprob": -1.0}}]},
    "text": "hello",
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_answer_without_the_log_probability_of_each_token_is_refused(kind: str) -> None:
    with pytest.raises(EngineError, match="gives no log-probabilities of the 3 tokens"):
        parse_prompt(ANSWERS[kind], [5, 9, 3], "http://a:1")


def test_answer_that_is_no_number_is_refused() -> None:
    answer = {"prompt_logprobs": [None, {"9": {"logprob": None, "rank": 1}}]}
    with pytest.raises(ModelError, match="no numbers"):
        parse_prompt(answer, [5, 9], "http://a:1")
