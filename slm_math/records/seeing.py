"""Whether the requests of an agent showed the images of a problem, whatever their files are called.

The first request of a sample has to show all of them. A role that speaks later may do without, if
it works on texts: that is said, no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from slm_math.records.record import Record, RecordedImage


def hidden(images: Sequence[RecordedImage], shown: Sequence[RecordedImage]) -> int:
    """How many of a problem's images a request did not show, in whatever order."""
    seen = {image.hash for image in shown}
    return sum(image.hash not in seen for image in images)


@dataclass(frozen=True)
class Unseen:
    """Samples in which a role saw too little.

    Args:
        role: whose requests.
        samples: those in which its request was the first one and hid an image (`first`), or in
            which none of its requests showed any image.
        of: the samples of problems with images in which it was first (`first`), or spoke.
        first: whether it is about first requests.
    """

    role: str
    samples: int
    of: int
    first: bool

    def __str__(self) -> str:
        count = f"in {self.samples} of {self.of} samples of problems with images"
        if self.first:
            return (
                f"the first request (role {self.role!r}) did not show all images {count}: their "
                "answers are more or less blind. Make its chat with problem.ask(prompt)"
            )
        return f"role {self.role!r} was shown no image {count}"


class Seen(NamedTuple):
    """Of a sample of a problem with images: the role of its first request, whether this hid an
    image, and by role whether any of its requests showed one.
    """

    first: str
    hides: bool
    saw: tuple[tuple[str, bool], ...]


def seen(record: Record) -> Seen | None:
    """Which roles saw what; None without images or requests."""
    if not record.images or not record.turns:
        return None
    first = record.turns[0]
    roles = dict.fromkeys(turn.role for turn in record.turns)
    saw = {turn.role for turn in record.turns if turn.images}
    hides = hidden(record.images, first.images) > 0
    return Seen(first.role, hides, tuple((role, role in saw) for role in roles))


def unseen(samples: Iterable[tuple[Seen | None, int]]) -> list[Unseen]:
    """What roles did not see, first requests first; [] if everything was shown. Of every different
    `seen` the number of samples.

    A first request without images counts as one that hid them, not for its role once more.
    """
    counts, all_samples = Counter[tuple[bool, str]](), Counter[tuple[bool, str]]()
    for one, n in samples:
        if one is None:
            continue
        all_samples[True, one.first] += n
        counts[True, one.first] += n * one.hides
        for role, saw in one.saw:
            all_samples[False, role] += n
            counts[False, role] += n * (not saw and not (one.hides and role == one.first))
    found = [
        Unseen(role, count, all_samples[first, role], first)
        for (first, role), count in counts.items()
        if count
    ]
    return sorted(found, key=lambda each: not each.first)
