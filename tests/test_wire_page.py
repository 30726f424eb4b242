"""What docs/WIRE.md says of the messages is what the program sends."""

import re
from enum import StrEnum
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import pytest

from streamer import analysis
from streamer.client import HEARTBEAT_S, LINK_LOST_AFTER_S
from streamer.frame import Clock, FeedState
from streamer.lane import STAGES
from streamer.ledger import DropReason
from streamer.smoothing import ViewChange
from streamer.wire import CHANNELS, MAX_HEADER_BYTES, MAX_MASK_SIDE, topic

PAGE = (Path(__file__).parents[1] / "docs" / "WIRE.md").read_text()
STRUCTS = {
    name: value
    for name, value in vars(analysis).items()
    if isinstance(value, type) and issubclass(value, msgspec.Struct) and value is not msgspec.Struct
}


def section(name: str) -> str:
    match = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert match is not None, f"the page has no section {name}"
    return match[1]


def rows(name: str) -> dict[str, str]:
    """Field -> meaning, of a section's table."""
    return dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", section(name), re.MULTILINE))


def quoted(name: str, field: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", rows(name)[field]))


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_every_field_is_listed_in_order_with_a_meaning(name: str) -> None:
    listed = rows(name)

    assert list(listed) == [field.encode_name for field in msgspec.structs.fields(STRUCTS[name])]
    assert all(len(meaning.strip()) > 3 for meaning in listed.values())


@pytest.mark.parametrize(
    ("name", "field", "values"),
    [
        ("Analysis", "state", FeedState),
        ("Analysis", "clock", Clock),
        ("Analysis", "view_change", ViewChange),
        ("Analysis", "dropped", DropReason),
    ],
)
def test_every_value_is_listed(name: str, field: str, values: type[StrEnum]) -> None:
    others = set(rows(name)) | {"live"}

    assert {each.value for each in values} == quoted(name, field) - (others - {each.value for each in values})


def test_kinds_of_events_and_stages_are_listed() -> None:
    assert quoted("Event", "kind") == set(get_args(get_type_hints(analysis.Event)["kind"])) | {"state"}
    assert quoted("Latency", "stages") == set(STAGES)


@pytest.mark.parametrize("name", ["Analysis", "Event"])
def test_the_schema_s_name_is_the_one_that_is_sent(name: str) -> None:
    (field,) = [each for each in msgspec.structs.fields(STRUCTS[name]) if each.name == "schema"]

    assert quoted(name, "schema") == {field.default}


def test_topics_limits_and_times_are_the_program_s() -> None:
    told = section("Messages")

    assert re.findall(r"^\| `([^`]+)` \|", told, re.MULTILINE) == [
        topic("<source>", channel).decode() for channel in ("analysis", "preview", "event")
    ]
    assert len(CHANNELS) == 3
    assert f"at most {MAX_HEADER_BYTES} bytes" in told
    assert f"at most {MAX_MASK_SIDE} cells" in told
    assert f"every {HEARTBEAT_S:g} s" in told
    assert f"for {LINK_LOST_AFTER_S:g} s" in told


def test_links_within_the_page_lead_somewhere() -> None:
    headings = {heading.lower() for heading in re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)}

    assert set(re.findall(r"\(#(\w+)\)", PAGE)) <= headings
