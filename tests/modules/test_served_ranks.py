"""Ranks with slices of the weights send whole ones to a server, and compare it with the policy."""

import sys
from functools import partial
from pathlib import Path

import pytest
from ranks import run_program, two, wait


def train(url: str, out: Path) -> None:
    from tiny import grpo, problems, trainer

    from slm_math.engines.settings import Vllm
    from slm_math.modules.optim import Optim

    module = grpo(
        vllm=Vllm(servers=(url,), patience=20, timeout=20),
        # a step that weights of the step before would betray
        optim=Optim(lr=2e-2, warmup=0),
        group_size=4,
    )
    run = trainer(out, devices=2, strategy="fsdp2", limit_train_batches=3)
    run.fit(module, problems(batch_size=4))
    assert run.callback_metrics["train/logp_diff"] < 5e-6
    assert run.callback_metrics["train/engine_gap"] < 1e-4
    replies = [rollout.trace.turns[0].reply for rollout in module.last_rollouts]
    [version] = {reply.version for reply in replies}
    assert version > 0  # the server has weights of after an update


@pytest.mark.slow
def test_a_server_samples_from_weights_in_slices(tmp_path: Path) -> None:
    run_program(__file__, str(tmp_path))


if __name__ == "__main__":
    import tiny  # noqa: F401
    from engines.vllm_endpoint import serving

    with serving(1) as servers:
        wait(*two(partial(train, servers[0].url, Path(sys.argv[1]))))
