"""What each metric means, by the name under which it is logged. The reference page of metrics is
written from this, and tests look every logged name up here.

<role>, <part>, <k>, <r>, <type>, <tag>, <value> and <phase> stand for what is in a name.
"""

from __future__ import annotations

import re
from functools import cache

_ANSWERS = {
    "accuracy": "The share of right answers; with several samples the mean over problems.",
    "low": "The lower end of accuracy's 95 % interval.",
    "high": "The upper end of accuracy's 95 % interval.",
    "n": "The number of samples.",
    "problems": "The number of problems.",
    "strict": "Right, and stated in a box or tag.",
    "lenient": "Right, also if no answer is stated and the last number is.",
    "boxed": "Stated in a box or tag, right or wrong.",
    "no_answer": "The agent has no answer.",
    "hedged": "Wrong, and the reply names alternatives.",
    "truncated": "A reply hit the token limit.",
    "empty": "A reply has no token.",
    "undecided": "The number of answers that the grader could not decide; they count as wrong.",
    "errors": "The number of workflows that broke; they count as wrong.",
    "skipped": "The number of problems that do not fit into the model's context; they count as "
    "wrong.",
    "<tag>/<value>/accuracy": "Accuracy on the problems with this value of a tag, such as "
    "`level/3/accuracy`; `low`, `high` and `n` as above.",
    "<tag>/<value>/low": "See `<tag>/<value>/accuracy`.",
    "<tag>/<value>/high": "See `<tag>/<value>/accuracy`.",
    "<tag>/<value>/n": "See `<tag>/<value>/accuracy`.",
}
_SAMPLES = {
    "pass@<k>": "The probability that any of k samples is right: unbiased, the mean over problems.",
    "pass@<k>_low": "The lower end of its 95 % interval, from the variance between problems.",
    "pass@<k>_high": "The upper end of its 95 % interval.",
    "maj@<k>": "The probability that the majority of k samples is right, over equivalent answers, "
    "whatever their order.",
    "maj@<k>_low": "The lower end of its 95 % interval, from the variance between problems.",
    "maj@<k>_high": "The upper end of its 95 % interval.",
}
_ROUNDS = {
    "rounds": "Drafts per sample.",
    "stayed_right": "The first draft and the answer are right. This and the next three add up "
    "to 1.",
    "improved": "The answer is right, the first draft is not.",
    "degraded": "The first draft is right, the answer is not.",
    "failed": "Neither is right.",
    "oracle": "The answer, any draft or any candidate is right.",
    "round_<r>/accuracy": "Accuracy if every sample had stopped after round r.",
    "after_<r>/accuracy": "Accuracy of the samples that ended after r rounds.",
    "after_<r>/share": "The share of samples that ended after r rounds.",
    "lost": "Unusable replies per sample: empty, or cut off by the token limit without what the "
    "agent needs.",
}
_VERDICTS = {
    "verdict_correct/right": "The number of verdicts CORRECT on right answers.",
    "verdict_correct/wrong": "The number of verdicts CORRECT on wrong answers.",
    "verdict_incorrect/right": "The number of verdicts INCORRECT on right answers.",
    "verdict_incorrect/wrong": "The number of verdicts INCORRECT on wrong answers.",
    "verdict_unclear/right": "The number of verdicts UNCLEAR on right answers.",
    "verdict_unclear/wrong": "The number of verdicts UNCLEAR on wrong answers.",
    "verifier_accuracy": "The share of verdicts that agree with the grader; UNCLEAR does not.",
    "approves_right": "The share of CORRECT among verdicts on right answers.",
    "approves_wrong": "The share of CORRECT among verdicts on wrong answers.",
    "unclear": "The share of verdicts UNCLEAR.",
    "verifier_balanced_accuracy": "The mean of P(CORRECT given right) and P(INCORRECT given "
    "wrong).",
    "approved": "The share of samples whose last verdict is CORRECT.",
    "true_positive_rate": "Of right drafts to judge, the share whose verdict is CORRECT.",
    "true_negative_rate": "Of wrong drafts to judge, the share whose verdict is INCORRECT.",
    "balanced_accuracy": "The mean of the true positive and the true negative rate.",
    "calibration_error": "With several verdicts on each draft, the mean distance between the share "
    "that says CORRECT and the share of right drafts.",
    "calibration_error_low": "The lower end of its 95 % interval.",
    "calibration_error_high": "The upper end of its 95 % interval.",
}
_SELECTION = {
    "majority": "The answer of most candidates is right.",
    "selection_made": "Of samples in which the selector was asked, the share in which it chose.",
    "selection_accuracy": "Where right and wrong candidates are there, the choice is right; no "
    "choice is not.",
    "selection_majority": "Where right and wrong candidates are there, their majority is right.",
}
_PROGRAMS = {
    "code_written": "A reply has a program.",
    "code_run": "A program was run.",
    "code_succeeded": "The last program ran without an error.",
    "code_succeeded_accuracy": "The accuracy of samples whose last program ran without an error.",
    "programs": "The number of program runs.",
    "programs_ran": "The share of runs without an error.",
    "programs_timed_out": "The share of runs that were stopped at their time limit.",
    "program_seconds": "The mean time of a run in seconds.",
    "program_errors/<type>": "The share of runs that ended with this error, such as "
    "`program_errors/NameError`.",
}
_COST = {
    "tokens": "Sampled tokens per sample.",
    "turns": "Replies per sample.",
    "length": "Tokens per reply.",
    "length_min": "The shortest reply in tokens.",
    "length_max": "The longest reply in tokens.",
    "length_terminated": "Tokens per reply, of replies that ended by themselves.",
    "length_terminated_min": "The shortest reply that ended by itself, in tokens.",
    "length_terminated_max": "The longest reply that ended by itself, in tokens.",
    "length/<role>": "Tokens per reply of one of several roles.",
    "seconds": "From a problem's start to its end, while all others run; the mean over samples.",
}
_REWARDS = {
    "reward": "The mean reward.",
    "reward_std": "The standard deviation of rewards.",
    "reward/<part>": "The mean of one part of the reward, before its weight.",
    "reward_std/<part>": "The standard deviation of one part of the reward.",
    "unscored": "The share of samples without a reward; they are left out of the update.",
    "frac_reward_zero_std": "The share of groups whose rewards are all equal; they give no "
    "gradient.",
    "frac_reward_zero_std/all_right": "The share of groups with equal rewards in which all answers "
    "are right.",
    "frac_reward_zero_std/all_wrong": "The share of groups with equal rewards in which all answers "
    "are wrong.",
}
_AGENT_EVAL = {
    "gain": "The paired difference of accuracy to the run's first evaluation.",
    "gain_low": "The lower end of its 95 % interval.",
    "gain_high": "The upper end of its 95 % interval.",
    "gain_p": "Its p-value.",
    "blind_accuracy": "Accuracy with blank images, on the problems that have images.",
    "seeing_accuracy": "Accuracy with their own images, on the same problems.",
    "seeing_problems": "The number of problems that have images.",
    "seeing_gain": "Accuracy with their own images minus that with blank ones, paired.",
    "seeing_gain_low": "The lower end of its 95 % interval.",
    "seeing_gain_high": "The upper end of its 95 % interval.",
    "seeing_gain_p": "Its p-value.",
    "gap": "The memorization gap: accuracy on problems minus that on their twins, paired.",
    "gap_low": "The lower end of its 95 % interval.",
    "gap_high": "The upper end of its 95 % interval.",
    "gap_p": "Its p-value.",
    "twinned_accuracy": "Accuracy on the problems that have a twin.",
    "twin_accuracy": "Accuracy on their unseen twins.",
    "gap_problems": "The number of problems that have a twin.",
    "total_seconds": "The time of the whole evaluation of this agent.",
}
_SFT = {
    "loss": "The mean next-token loss of the step in nats.",
    "token_accuracy": "The share of loss tokens that the model finds likeliest.",
    "tokens": "Tokens of the step's rows.",
    "tokens_per_second": "Tokens of the step's rows per second.",
}
_UPDATE = {
    "lr": "The learning rate.",
    "<role>/lr": "That of a role, where there are several.",
    "<role>/learns": "1 if the role learns in this step, 0 if it waits (`alternate`).",
    "grad_norm": "The norm of the gradient before it is clipped.",
    "padding": "The share of computed positions that hold no token.",
    "shared": "The share of the rows' tokens that rows have in common and that were computed once.",
    "skipped_updates": "The number of updates so far without a finite gradient; they change "
    "nothing.",
    "engine_gap": "The largest difference between log-probabilities of engine and policy, in nats, "
    "at the last check.",
}
_GRPO = {
    "loss": "The loss of a pass over the step's rows.",
    "policy_loss": "The loss without KL, entropy and teacher.",
    "advantage": "The mean advantage.",
    "advantage_min": "The smallest advantage.",
    "advantage_max": "The largest advantage.",
    "kl": "The estimate of the KL divergence from the reference, in nats per token.",
    "entropy": "The entropy of the policy, in nats per token.",
    "ratio": "The probability of a token under the policy by that under the policy that sampled; "
    "the mean.",
    "ratio_min": "The smallest ratio.",
    "ratio_max": "The largest ratio.",
    "clip_low": "The share of tokens whose ratio is clipped from below.",
    "clip_high": "The share of tokens whose ratio is clipped from above.",
    "clip_region": "The share of tokens whose ratio is clipped, from below or above.",
}
_ENGINE = {
    "logp_diff": "The mean distance between the log-probabilities of engine and policy, in nats.",
    "logp_diff_max": "The largest distance between the two log-probabilities, in nats.",
    "mismatch": "The probability of a token under the policy by that under the engine; the mean.",
    "mismatch_min": "The smallest ratio of policy to engine.",
    "mismatch_max": "The largest ratio of policy to engine.",
    "mismatch_corrected": "The share of tokens whose ratio of policy to engine was truncated or "
    "masked.",
    "effective_sample_size": "What the ratios of policy to engine leave of the sample, as a share: "
    "1 if all are equal.",
}
_TEACHER = {
    "teacher_kl": "The estimated KL divergence of the student from the teacher, in nats per token.",
    "teacher_disagrees": "The share of tokens that the teacher would not have chosen.",
    "teacher_divergence": "The mean divergence that the loss has, in nats per token.",
    "teacher_gap_max": "The largest distance of log-probabilities in nats.",
    "untaught": "The share of rows of which the teacher says nothing.",
}
_TIME = {
    "seconds/<phase>": "Time of a phase: `sync`, `generate`, `reward`, `reference`, `teacher`, "
    "`update`.",
    "tokens_per_second/generate": "Sampled tokens per second of sampling.",
    "tokens_per_second/update": "Tokens of rows per second of the update.",
    "peak_memory_gib": "The most memory in GiB so far: the GPU's, without one that of the process.",
    "mfu": "Model FLOP utilization of the update, on a GPU whose peak is known.",
}
_VALIDATION = {
    "val/loss": "The next-token loss on the validation dialogues, in nats per token.",
    "val/token_accuracy": "The share of their loss tokens that the model finds likeliest.",
}
_TRAIN = "As `train/NAME`, every step."
# title -> where its metrics are, and their meanings by name
GROUPS: dict[str, tuple[str, dict[str, str]]] = {
    "Answers": ("", _ANSWERS),
    "Several samples": ("", _SAMPLES),
    "Rounds": ("Of agents with drafts.", _ROUNDS),
    "Verdicts": (
        "Of agents with a verifier, and of drafts to judge. If several roles verify, each name "
        "starts with the role. ",
        _VERDICTS,
    ),
    "Selection": ("Of agents with a selector.", _SELECTION),
    "Programs": ("", _PROGRAMS),
    "Cost": ("", _COST),
    "Rewards": (
        "As `train/NAME`, and in evaluations with rewards. With several trained roles, each name "
        "starts with the role.",
        _REWARDS,
    ),
    "Evaluation during training": ("As `eval/<agent>/NAME`, of `AgentEval`.", _AGENT_EVAL),
    "Fine-tuning": (_TRAIN, _SFT),
    "Validation of fine-tuning": ("After every epoch.", _VALIDATION),
    "Optimizer": ("As `train/NAME`, every step of SFT and GRPO.", _UPDATE),
    "GRPO": (
        "As `train/NAME`, every step. With several trained roles, the names of advantages start "
        "with the role. Ratios, KL and entropy are those of the rows that are trained on.",
        _GRPO,
    ),
    "Engine against policy": (
        "As `train/NAME`, where the engine returns log-probabilities.",
        _ENGINE,
    ),
    "Teacher": ("As `train/NAME`, with a teacher.", _TEACHER),
    "Time and memory": (_TRAIN, _TIME),
}
_SLOTS = {"<k>": r"\d+", "<r>": r"\d+", "<value>": ".+", "<tag>": r"[^/]+"}


def meaning(name: str) -> str | None:
    """What a metric means, None if nobody described it.

    Args:
        name: as logged, without `train/` and `eval/<agent>/`; it may start with a role.
    """
    own = _found(name)
    role, slash, rest = name.partition("/")
    return own or (_found(rest) if slash and role.isidentifier() else None)


def _found(name: str) -> str | None:
    return next((text for pattern, text in _patterns() if pattern.fullmatch(name)), None)


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """The patterns of all names; those of single names come before those that fit many."""
    every = [pair for _, meanings in GROUPS.values() for pair in meanings.items()]
    every.sort(key=lambda pair: "<tag>" in pair[0])
    return [(_pattern(name), text) for name, text in every]


def _pattern(name: str) -> re.Pattern[str]:
    parts = re.split(r"(<\w+>)", name)
    return re.compile(
        "".join(_SLOTS.get(p, r"[\w.-]+") if p.startswith("<") else re.escape(p) for p in parts)
    )
