"""Which problems are evaluated, and which worked examples stand in front of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from slm_math.agents import (
    Agent,
    CodeFeedback,
    FewShot,
    MajorityVote,
    PythonTools,
    SingleShot,
    SolverVerifier,
)
from slm_math.data.base import Source, Split
from slm_math.data.selection import select_problems
from slm_math.evaluation.shots import with_shots
from slm_math.types import Generate, Problem, Reply, Task


def task(i: int, split: str = "test", solution: str | None = None, **tags: str) -> Task:
    return Task(
        Problem(f"p/{split}/{i}", f"In {split}, what is {i} + 1?", tags=tags), str(i + 1), solution
    )


# levels 1 to 5 of algebra, 1 to 3 of geometry, four of each; the last two have no tags
TASKS = [
    task(i, level=str(level), subject=subject)
    for i, (subject, level) in enumerate(
        [
            pair
            for pair in [("Algebra", n) for n in range(1, 6)] + [("Geometry", n) for n in (1, 2, 3)]
            for _ in range(4)
        ]
    )
] + [task(98), task(99)]


def ids(tasks: list[Task]) -> list[str]:
    return [t.problem.id for t in tasks]


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ({"level": 3}, 8),
        ({"level": "3"}, 8),
        ({"level": [4, 5]}, 8),
        ({"level": ("1", 5)}, 12),
        ({"subject": "Geometry"}, 12),
        ({"subject": ["Algebra", "Geometry"]}, 32),
        ({"subject": "Geometry", "level": [2, 3]}, 8),
        ({}, 34),
        (None, 34),
    ],
)
def test_where_keeps_what_has_the_tags(where: dict[str, Any] | None, count: int) -> None:
    wanted = {
        k: set(map(str, v if isinstance(v, list | tuple) else [v]))
        for k, v in (where or {}).items()
    }
    expected = [
        t for t in TASKS if all(t.problem.tags.get(k) in values for k, values in wanted.items())
    ]
    assert len(expected) == count
    assert select_problems(TASKS, where) == expected


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"levl": 3}, ["levl", "no problem has such a tag"]),
        ({"level": 9}, ["level 9", "1, 2, 3, 4, 5"]),
        ({"level": [1, 9]}, ["level 9"]),
        ({"subject": "algebra"}, ["algebra", "Algebra, Geometry"]),
    ],
)
def test_tag_or_value_that_no_problem_has_is_refused(
    where: dict[str, Any], said: list[str]
) -> None:
    with pytest.raises(ValueError, match="where names") as caught:
        select_problems(TASKS, where)
    assert all(text in str(caught.value) for text in said)
    assert "\n" not in str(caught.value)


def test_value_that_only_other_problems_have_selects_nothing_and_is_not_called_unknown() -> None:
    assert len(select_problems(TASKS, {"subject": "Geometry", "level": [3, 4]})) == 4


def test_limit_is_a_fair_sample_in_the_order_of_the_source() -> None:
    chosen = select_problems(TASKS, limit=10)
    assert chosen == select_problems(TASKS, limit=10)
    places = [TASKS.index(t) for t in chosen]
    assert places == sorted(set(places))
    assert len(places) == 10
    assert places != list(range(10))
    assert select_problems(TASKS, limit=34) == select_problems(TASKS, limit=1000) == TASKS


def test_shuffle_is_an_order_by_its_seed() -> None:
    first, again, other = (select_problems(TASKS, shuffle=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other != TASKS != first
    assert Counter(ids(first)) == Counter(ids(other)) == Counter(ids(TASKS))
    assert ids(TASKS)[:2] == ["p/test/0", "p/test/1"]  # the list that was given is left alone


def test_shuffle_puts_every_problem_first_now_and_then() -> None:
    firsts = {select_problems(TASKS, shuffle=seed)[0].problem.id for seed in range(400)}
    assert len(firsts) > 30


def test_limit_takes_the_first_of_a_shuffled_order() -> None:
    for limit in (1, 2, 5, 10, 20, 33, 34, 50):
        assert (
            select_problems(TASKS, shuffle=7, limit=limit)
            == select_problems(TASKS, shuffle=7)[:limit]
        )


def test_limit_of_a_shuffled_order_is_the_same_every_time() -> None:
    assert (
        select_problems(TASKS, shuffle=7, limit=5)
        == select_problems(TASKS, shuffle=7, limit=5)
        != select_problems(TASKS, shuffle=8, limit=5)
    )
    assert len(set(ids(select_problems(TASKS, shuffle=7, limit=5)))) == 5
    assert len(select_problems(TASKS, shuffle=7, limit=1000)) == len(TASKS)


def test_limit_counts_what_where_left() -> None:
    for shuffle in (None, 3):
        chosen = select_problems(TASKS, {"level": [1]}, shuffle, 5)
        assert len(chosen) == 5
        assert {t.problem.tags["level"] for t in chosen} == {"1"}


def test_limit_of_none_means_the_same_shuffled_or_not() -> None:
    assert len(select_problems(TASKS, shuffle=3, limit=0)) == len(select_problems(TASKS, limit=0))


class Lessons(Source):
    """Training problems with solutions, some of them among `asked`; the test split has solutions
    too.
    """

    name = "lessons"

    def __init__(self, worked: int = 30, bare: int = 5, asked: int = 0, times: int = 1) -> None:
        self.worked, self.bare, self.asked, self.times = worked, bare, asked, times
        self.splits: list[str] = []

    def tasks(self, split: Split) -> list[Task]:
        self.splits.append(split)
        if split != "train":
            return [task(i, split, f"test solution {i}") for i in range(40)]
        own = [task(i, "train", f"worked {i}") for i in range(self.worked)]
        copies = [
            replace(task(i, "test", f"leaked {i}"), gold="0") for i in range(self.asked)
        ] * self.times
        copies = [
            replace(t, problem=replace(t.problem, id=f"p/train/copy{i}"))
            for i, t in enumerate(copies)
        ]
        return copies + own + [task(900 + i, "train") for i in range(self.bare)]


ASKED = [task(i) for i in range(40)]


def shown(agent: Agent, problem: Problem = ASKED[0].problem) -> list[tuple[str, str]]:
    """The first request of an agent as (role, text)."""
    effects = next(agent.solve(problem))
    [request] = [effect for effect in effects if isinstance(effect, Generate)][:1]
    return [(message.role, message.text) for message in request.chat]


def test_no_shots_leave_the_agent_as_it_is() -> None:
    agent, source = SingleShot(), Lessons()
    assert with_shots(agent, 0, source, ASKED) is agent
    assert source.splits == []


def test_examples_are_worked_training_problems() -> None:
    source = Lessons()
    agent = with_shots(SingleShot(), 4, source, ASKED)
    assert source.splits == ["train"]
    chat = shown(agent)
    assert [role for role, _ in chat] == ["user", "assistant"] * 4 + ["user"]
    assert len({text for _, text in chat}) == 9
    for (_, question), (_, answer) in zip(chat[:-1:2], chat[1::2]):
        number = answer.removeprefix("worked ")
        assert f"In train, what is {number} + 1?" in question
    assert chat[-1:] == shown(SingleShot())


def test_examples_are_chosen_by_the_seed() -> None:
    chosen = [shown(with_shots(SingleShot(), 4, Lessons(), ASKED, seed)) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_examples_are_none_of_the_problems_that_are_evaluated() -> None:
    for seed in range(10):
        chat = shown(with_shots(SingleShot(), 5, Lessons(worked=15, asked=15), ASKED, seed))
        assert not [text for _, text in chat[:-1] if "In test" in text or "leaked" in text]


def test_examples_are_found_however_many_training_problems_are_evaluated() -> None:
    many = [task(i) for i in range(300)]
    assert len(shown(with_shots(SingleShot(), 4, Lessons(worked=4, asked=300), many))) == 9


def test_no_copy_of_an_evaluated_problem_is_an_example() -> None:
    chat = shown(with_shots(SingleShot(), 5, Lessons(worked=5, asked=5, times=3), ASKED))
    assert not [text for _, text in chat[:-1] if "leaked" in text]


@pytest.mark.parametrize(
    "source",
    [Lessons(worked=3), Lessons(worked=0), Lessons(worked=3, asked=20)],
    ids=["few", "none", "asked"],
)
def test_too_few_worked_problems_are_refused(source: Lessons) -> None:
    with pytest.raises(
        ValueError, match=r"lessons has only \d+ worked training problems, but shots is 4"
    ):
        with_shots(SingleShot(), 4, source, ASKED)


def test_source_without_a_training_split_is_refused_with_a_way_out() -> None:
    class TestOnly(Lessons):
        def tasks(self, split: Split) -> list[Task]:
            if split != "test":
                raise ValueError("only a test split here")
            return super().tasks(split)

    with pytest.raises(ValueError, match="only a test split here: choose another shots_source"):
        with_shots(SingleShot(), 2, TestOnly(), ASKED)


def test_negative_shots_are_refused() -> None:
    with pytest.raises(ValueError, match="shots must be 0 or more, got -1"):
        with_shots(SingleShot(), -1, Lessons(), ASKED)


def test_example_without_a_solution_is_refused() -> None:
    with pytest.raises(ValueError, match="p/train/3 has none"):
        FewShot(SingleShot(), [task(1, "train", "worked 1"), task(3, "train")])


AGENTS: dict[str, Agent] = {
    "single": SingleShot(),
    "plain": SingleShot("solve_plain"),
    "vote": MajorityVote(k=2, prompt="solve_tags"),
    "verifier": SolverVerifier(prompt="solve_plain"),
    "code": CodeFeedback(),
    "tools": PythonTools(),
}


@pytest.mark.parametrize("name", AGENTS)
def test_examples_are_asked_as_the_agent_asks(name: str) -> None:
    chat = shown(with_shots(AGENTS[name], 2, Lessons(), ASKED))
    asked = chat[-1][1]
    for (_, question), (_, answer) in zip(chat[:-1:2], chat[1::2]):
        number = answer.removeprefix("worked ")
        assert question == asked.replace(
            "In test, what is 0 + 1?", f"In train, what is {number} + 1?"
        )


def test_only_the_solver_sees_examples() -> None:
    agent = with_shots(SolverVerifier(), 2, Lessons(), ASKED)
    workflow = agent.solve(ASKED[0].problem)
    effects, requests = next(workflow), []
    for _ in range(10):
        requests += [effect for effect in effects if isinstance(effect, Generate)]
        if any(request.role == "verifier" for request in requests):
            break
        effects = workflow.send(
            [Reply(r"\boxed{1}") if isinstance(e, Generate) else None for e in effects]
        )
    texts = {request.role: [message.text for message in request.chat] for request in requests}
    assert sum(text.startswith("worked") for text in texts["solver"]) == 2
    assert not [text for text in texts["verifier"] if text.startswith("worked")]


def test_answer_is_the_agents_own() -> None:
    workflow = with_shots(SingleShot(), 2, Lessons(), ASKED).solve(ASKED[0].problem)
    next(workflow)
    with pytest.raises(StopIteration) as end:
        workflow.send([Reply(r"so \boxed{42}")])
    assert end.value.value == "42"


def drafts(right: int, wrong: int) -> list[Task]:
    golds = ["CORRECT"] * right + ["INCORRECT"] * wrong
    return [
        Task(Problem(f"d/{i}", "Is it?", answer_type="verdict"), gold)
        for i, gold in enumerate(golds)
    ]


@pytest.mark.parametrize("shuffle", [None, 0, 1])
@pytest.mark.parametrize(
    ("right", "wrong", "limit", "numbers"),
    [
        (30, 30, 20, {10}),
        (30, 30, 7, {3, 4}),
        (90, 10, 20, {10}),
        (90, 4, 20, {16}),
        (4, 90, 20, {4}),
        (3, 3, 20, {3}),
        (30, 30, 0, {0}),
    ],
)
def test_limit_keeps_as_many_right_as_wrong_drafts(
    shuffle: int | None, right: int, wrong: int, limit: int, numbers: set[int]
) -> None:
    tasks = drafts(right, wrong)
    chosen = select_problems(tasks, shuffle=shuffle, limit=limit)
    assert len(set(ids(chosen))) == min(limit, len(tasks))
    assert sum(task.gold == "CORRECT" for task in chosen) in numbers
    assert chosen == select_problems(tasks, shuffle=shuffle, limit=limit)
