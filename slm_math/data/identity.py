"""What a problem is: the same key for two copies of it, another key for another problem."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from slm_math.data.normalized import normalized
from slm_math.images import image_hash
from slm_math.types import Problem


def image_hashes(problem: Problem) -> tuple[str, ...]:
    """Hashes of the images of a problem, in order: of the bytes of their files."""
    return tuple(image_hash(image.source) for image in problem.images)


def scene_key(problem: Problem) -> str:
    """A key of the images of a problem, all of them in any order; "" if it has none. What is asked
    about one scene is in one split.
    """
    return "\n".join(sorted(image_hashes(problem)))


def problem_key(problem: Problem, images: Sequence[str] | None = None) -> str:
    """A key of what a problem is: its text and choices after normalization, its images by their
    content, and its draft, which is compared letter by letter.

    Ids, tags and the answer type are no part of it. Two drafts to judge are two problems, although
    the question is one (`question_key`). `images` are the hashes of its images, for a record, whose
    files may be gone.
    """
    draft = problem.draft
    parts = [] if draft is None else [draft.text, draft.answer]
    return _digest([question_key(problem, images), *parts])


def question_key(problem: Problem, images: Sequence[str] | None = None) -> str:
    """The key of a problem without its draft: what was asked when the draft was written.

    Which problems are held out is decided by less: the images, or else the text (`is_held_out`).
    """
    # a text of signs that normalization removes is compared as it is
    texts = [normalized(text) or text.strip() for text in (problem.text, *problem.choices)]
    if images is None:
        images = image_hashes(problem)
    return _digest([texts, list(images)])


def _digest(parts: list[object]) -> str:
    whole = json.dumps(parts, ensure_ascii=True).encode("ascii")
    return hashlib.blake2b(whole, digest_size=16).hexdigest()
