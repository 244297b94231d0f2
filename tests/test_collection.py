"""Garbage is not collected inside of a block, and is again after it, or where a run begins."""

import gc

import pytest

from slm_math.collection import collect_again, without_collection


def test_nothing_is_collected_inside_of_a_block_and_of_blocks_in_it() -> None:
    with without_collection():
        assert not gc.isenabled()
        with without_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_block_that_was_ended_stays_ended() -> None:
    with without_collection():
        collect_again()
        assert gc.isenabled()
        with without_collection():
            assert not gc.isenabled()
        assert gc.isenabled()
    assert gc.isenabled()


def test_an_error_ends_a_block() -> None:
    with pytest.raises(ValueError, match="inside"), without_collection():
        raise ValueError("inside")
    assert gc.isenabled()


def test_who_collects_nothing_at_all_is_left_alone() -> None:
    gc.disable()
    try:
        with without_collection():
            pass
        collect_again()
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("stage", ["fit", "validation", "test", "predict"])
def test_each_stage_of_training_collects(stage: str) -> None:
    from slm_math.modules.sft import SFTModule

    module = SFTModule.__new__(SFTModule)
    with without_collection():
        getattr(module, f"on_{stage}_start")()
        assert gc.isenabled()
