"""How a reply is sampled."""

from __future__ import annotations

from dataclasses import dataclass

from slm_math.ranges import check_number, check_whole


@dataclass(frozen=True)
class Sampling:
    """How to decode: temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 are off; `stop` strings
    end a reply.

    Of the tokens that top_k leaves, top_p keeps the likeliest until they hold that share; min_p
    drops those below that share of the likeliest one's probability (Nguyen et al. 2024).
    `not_first` names strings with which a reply may not begin (their first token is masked at the
    first position): a control for "the model only learned when to reason". `effort` asks a
    thinking model behind an endpoint how much to think (low, medium, high, as its server has it).
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    not_first: tuple[str, ...] = ()
    effort: str | None = None

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, low=0)
        check_number("top_p", self.top_p, above=0, high=1)
        check_number("min_p", self.min_p, low=0, high=1)
        check_whole("top_k", self.top_k, low=0)
        check_whole("max_new_tokens", self.max_new_tokens)
        if "" in (*self.stop, *self.not_first):
            raise ValueError("stop and not_first take texts that are not empty")

    @property
    def restricts_support(self) -> bool:
        """True when the sampling distribution is not the whole softmax (greedy, top-p, top-k,
        min-p).
        """
        return self.temperature == 0 or self.top_p < 1 or self.top_k > 0 or self.min_p > 0
