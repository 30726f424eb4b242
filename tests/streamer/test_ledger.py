"""Accounts of frames."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.ledger import DropReason, Ledger


@given(st.lists(st.sampled_from(["capture", "analyze", *DropReason]), max_size=60))
def test_captured_equals_analyzed_plus_dropped_plus_in_flight_after_any_history(history: list[str]) -> None:
    ledger, waiting = Ledger(), 0
    for step in history:
        if step == "capture":
            ledger.capture()
            waiting += 1
        elif waiting:
            waiting -= 1
            ledger.analyze() if step == "analyze" else ledger.drop(DropReason(step))

    accounts = ledger.accounts
    assert accounts.in_flight == waiting
    assert accounts.captured == accounts.analyzed + sum(accounts.dropped.values()) + accounts.in_flight


def test_frames_are_numbered_from_zero_without_gaps() -> None:
    ledger = Ledger()

    assert [ledger.capture() for _ in range(3)] == [0, 1, 2]


def test_drops_are_reported_once_with_their_reason() -> None:
    ledger = Ledger()
    for _ in range(3):
        ledger.capture()
    ledger.drop(DropReason.SUPERSEDED)
    ledger.drop(DropReason.SUPERSEDED)

    assert ledger.newly_dropped() == {"superseded": 2}
    assert ledger.newly_dropped() == {}
