"""Which images an agent showed, as records know it."""

from dataclasses import replace

from slm_math.metrics.summary import summarize
from slm_math.records.record import ChatMessage, Record, RecordedImage, TurnEvent
from slm_math.records.seeing import hidden, seen, unseen

A, B = RecordedImage("/a.png", "aa"), RecordedImage("/b.png", "bb")


def turn(role: str, *images: RecordedImage) -> TurnEvent:
    return TurnEvent(role=role, prompt=(ChatMessage("user", "What is it?", images),), reply="7")


def sample(*turns: TurnEvent, images: tuple[RecordedImage, ...] = (A, B)) -> Record:
    return Record("p", 0, images=images, events=turns)


def test_images_are_known_by_their_content_in_any_order() -> None:
    renamed = A._replace(source="/copy of a.png")
    replaced = A._replace(hash="cc")
    assert hidden([A, B], [B, renamed]) == 0
    assert hidden([A, B], [B, replaced]) == 1
    assert hidden([A, B], []) == 2
    assert hidden([], []) == 0


def test_what_is_shown_in_full_is_not_worth_a_line() -> None:
    whole = sample(turn("solver", A, B), turn("checker", B))
    no_images = sample(turn("solver"), images=())
    assert unseen((seen(one), 1) for one in (whole, no_images, sample())) == []


def test_a_first_request_shows_all_images_and_later_roles_any() -> None:
    records = [
        sample(turn("solver", A), turn("checker")),
        sample(turn("solver"), turn("checker", A)),
        sample(turn("solver", B, A), turn("checker"), turn("checker")),
        sample(turn("solver"), images=()),
    ]
    found = [
        (each.role, each.samples, each.of, each.first)
        for each in unseen((seen(one), 1) for one in records)
    ]
    assert found == [("solver", 2, 3, True), ("checker", 2, 3, False)]


def test_a_summary_warns_with_the_count_also_without_texts() -> None:
    records = [replace(sample(turn("solver", A)), id=str(n)) for n in range(3)]
    records.append(replace(sample(turn("solver", A, B)), id="whole"))
    lines = summarize(records).warnings
    assert summarize([each.without_texts() for each in records]).warnings == lines
    [line] = lines
    assert "role 'solver'" in line
    assert "in 3 of 4 samples of problems with images" in line
    [small] = records[0].without_texts().turns
    assert (small.images, small.prompt[0].content) == ((A,), "")
