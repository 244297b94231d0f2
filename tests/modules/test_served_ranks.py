"""Ranks with slices of the weights send whole ones to a server, and export whole ones; those of a
frozen tower, which no rank ever slices, too.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ranks import run_program, two, wait


def train(url: str, out: Path, sees: bool) -> None:
    """Three steps; then the first rank saves all weights, once the server has them."""
    import lightning as L
    import torch
    from seeing import SEEING
    from tiny import grpo, problems, trainer

    from slm_math.callbacks import ExportHF
    from slm_math.engines.settings import Vllm
    from slm_math.modules.optim import Optim
    from slm_math.policy.config import Policy

    class Send(L.Callback):
        def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
            module.engines()
            policy = module.whole()
            if policy is not None:
                torch.save(policy.model.state_dict(), out / "weights.pt")

    module = grpo(
        Policy(scratch=SEEING) if sees else None,
        vllm=Vllm(servers=(url,), patience=20, timeout=20),
        # a step that weights of the step before would betray
        optim=Optim(lr=2e-2, warmup=0),
        group_size=4,
    )
    callbacks = [Send(), ExportHF(check=False)]
    run = trainer(out, devices=2, strategy="fsdp2", limit_train_batches=3, callbacks=callbacks)
    run.fit(module, problems(batch_size=4))
    assert run.callback_metrics["train/logp_diff"] < 5e-6
    assert run.callback_metrics["train/engine_gap"] < 1e-4
    replies = [rollout.trace.turns[0].reply for rollout in module.last_rollouts]
    [version] = {reply.version for reply in replies}
    assert version > 0  # the server has weights of after an update


def serve_and_train(out: Path, sees: bool) -> None:
    """The server, the export and the policy have the same weights in the end."""
    import tiny
    import torch
    from engines.vllm_endpoint import serving
    from seeing import SEEING, logits

    from slm_math.policy.config import Policy

    scratch = SEEING if sees else tiny.SCRATCH
    with serving(1, scratch=scratch, seed=1) as servers:
        if sees:
            servers[0].logits = logits
        wait(*two(partial(train, servers[0].url, out, sees)))
        served = servers[0].model.state_dict()
    policy = torch.load(out / "weights.pt")
    exported = Policy(path=str(out / "export")).load(("solver",)).model.state_dict()
    for name, weight in policy.items():
        assert torch.equal(served[name], weight), name
        assert torch.equal(exported[name], weight), name
    start = scratch.model(scratch.tokenizer()).state_dict()
    still = {name for name, weight in policy.items() if torch.equal(start[name], weight)}
    assert still == {name for name in policy if sees and ".visual." in name}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "frozen-tower"])
def test_a_server_samples_from_weights_in_slices(kind: str, tmp_path: Path) -> None:
    run_program(__file__, str(tmp_path), kind)


if __name__ == "__main__":
    serve_and_train(Path(sys.argv[1]), sees=sys.argv[2] == "frozen-tower")
