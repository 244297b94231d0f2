"""What several ranks share of what stays in memory, and what a rank has whole for a moment: closed
formulas of docs/scaling.md, checked against docs/measurements/sharding.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from slm_math.planning.memory import Resident
from slm_math.planning.network import Sizes

WHOLE = 2  # decoder layers that a pass has whole: one that computes, one that is on its way


@dataclass(frozen=True)
class Sharing:
    """How ranks share a policy.

    Args:
        kind: "copies": each has everything (ddp); "moments": each has the moments, and the fp32
            masters, of a part of the weights (optim.sharded); "slices": each has a slice of
            weights, gradients and moments (fsdp2).
        ranks: how many there are.
        copy: whether a rank with slices decodes with a whole copy of its own.
    """

    kind: Literal["copies", "moments", "slices"] = "copies"
    ranks: int = 1
    copy: bool = False

    @property
    def slices(self) -> bool:
        return self.kind == "slices" and self.ranks > 1

    def own(
        self, whole: Resident, sizes: Sizes, rounded: bool, adapters: bool, again: bool
    ) -> Resident:
        """What stays on a rank of what one process would have. `again`: a step has several
        micro-batches.
        """
        n = self.ranks
        if n == 1 or self.kind == "copies":
            return whole
        if self.kind == "moments":
            masters = 4 * sizes.trained if rounded else 0
            return replace(
                whole,
                weights=whole.weights - masters + masters // n,
                moments=whole.moments // n,
                gradients=whole.gradients if again else whole.gradients // n,
            )
        each = 2 if rounded else 4
        if adapters:  # which stay whole
            frozen = each * (sizes.weights - sizes.trained)
            return replace(whole, weights=whole.weights - frozen + frozen // n)
        return replace(  # slices are in fp32, and serve as masters
            whole,
            weights=4 * sizes.weights // n,
            reference=whole.reference // n,
            moments=whole.moments // n,
            gradients=whole.gradients // n,
        )

    def decoding(self, sizes: Sizes, rounded: bool) -> int:
        """Bytes of the copy that decodes."""
        return (2 if rounded else 4) * sizes.weights if self.slices and self.copy else 0

    def gradients(self, layer: int, adapters: bool, again: bool) -> int:
        """Bytes of a layer's gradients that stay once they are summed up, of `layer` in all."""
        shared = self.slices or (self.kind == "moments" and not again)
        return layer // self.ranks if shared and not adapters else layer

    def passing(self, sizes: Sizes, rounded: bool, adapters: bool, again: bool) -> int:
        """Bytes beside it all while a rank computes an update: buckets in which gradients are
        summed up, or whole weights of some layers, with the gradients of those outside of layers.
        """
        if self.ranks == 1 or self.kind == "moments":
            return 0
        if not self.slices:
            return 4 * sizes.trained
        outside = sizes.weights - sizes.matrices - (sizes.trained if adapters else 0)
        each = 2 if rounded else 4
        gathered = each * (outside + WHOLE * sizes.matrices // max(sizes.layers, 1))
        return gathered + (4 * outside if again and not adapters else 0)


ALONE = Sharing()
