"""Messages between processes, whole and broken."""

import msgspec
import pytest

from streamer.analysis import Event, json_schema
from streamer.wire import Received, WireError, decode, encode_analysis, topic
from tests.streamer.results import analysis


def parts(*, header: bytes | None = None, mask: bytes = bytes(12)) -> list[bytes]:
    return [topic("probe", "analysis"), encode_analysis(analysis()) if header is None else header, mask]


def test_an_analysis_arrives_as_it_was_sent() -> None:
    sent = analysis(7)

    received = decode(
        [topic("probe", "preview"), encode_analysis(sent), bytes(range(12)), b"jpeg"], received_monotonic=5
    )

    assert isinstance(received, Received)
    assert received.analysis == sent
    assert received.mask is not None
    assert received.mask.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert (received.picture, received.received_monotonic) == (b"jpeg", 5)


def test_fields_that_a_later_version_adds_are_ignored() -> None:
    header = msgspec.json.decode(encode_analysis(analysis()))
    header["colour_of_the_probe"] = "blue"

    assert isinstance(decode(parts(header=msgspec.json.encode(header)), received_monotonic=0), Received)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ([b"sonostream/analysis/probe"], "at least a topic and a header"),
        ([b"weather/paris", b"{}"], "not a sonostream topic"),
        (parts(header=b"{"), "header on sonostream/analysis/probe"),
        (parts(header=b"\xff\xfe"), "header on"),
        (parts(header=b"[" * 100_000), "header on"),
        (parts(header=b" " * ((1 << 20) + 1)), "header of 1048577 bytes"),
        (parts(mask=bytes(5)), "mask of 4 x 3 needs as many bytes, got 5"),
        (
            parts(header=encode_analysis(analysis()).replace(b'"width":4', b'"width":99999999')),
            "at most 4096",
        ),
        (parts(header=encode_analysis(analysis()).replace(b'"width":4', b'"width":-4')), "at most 4096"),
        (parts(header=encode_analysis(analysis()).replace(b"analysis/1", b"analysis/9")), "schema"),
    ],
)
def test_a_broken_message_is_refused_with_its_fault(message: list[bytes], said: str) -> None:
    with pytest.raises(WireError, match=said):
        decode(message, received_monotonic=0)


def test_the_published_schema_describes_both_kinds_of_message() -> None:
    schema = msgspec.json.decode(json_schema())

    assert {"Analysis", "Event"} <= schema["$defs"].keys()
    assert set(schema["$defs"]["Analysis"]["required"]) < set(Event.__struct_fields__) | set(
        schema["$defs"]["Analysis"]["properties"]
    )
