"""What travels over the WebSocket between the viewer and a page.

A picture is one binary message, so that picture, overlay and numbers cannot part:

    bytes 0-3    N, length of the header, little endian
    N bytes      JSON: the analysis as the daemon published it, with the field `view` added (see `View`)
    W x H bytes  the mask, as the header's `mask` lays it out; none where that is null
    the rest     JPEG of the region; may be empty

Everything else is small JSON text with a field `type`. A page returns an `ack` for every picture it has
drawn; until then it gets no other one of that source. Instants named `clock_ms` are milliseconds on the
viewer's CLOCK_MONOTONIC: a page finds its offset to it with `ping`, and so knows how long a picture lay in
buffers that neither side sees.
"""

import msgspec
from msgspec import Struct

from streamer.frame import FeedState
from streamer.wire import Received, encode_analysis


class View(Struct, frozen=True):
    """What the viewer knows of an analysis that its publisher could not."""

    received_ms: float
    """When it arrived, on the viewer's clock."""
    age_ms: float
    """Its age at that instant: capture to publishing, and any time it spent queued on the way."""


class SourceStatus(Struct, frozen=True):
    """The newest that is known of one source."""

    source: str
    publisher: str
    state: FeedState
    state_monotonic: int
    """When the daemon said so, ns on its CLOCK_MONOTONIC."""
    ended: bool = False
    detail: str = ""
    captured: int = 0
    analyzed: int = 0
    dropped: dict[str, int] = {}
    """Frames the daemon dropped so far, by reason."""


class Hello(Struct, frozen=True, tag="hello"):
    """The first message of a connection."""

    clock_ms: float
    address: str
    """The daemon's, as the viewer was told."""
    stale_after_ms: float
    """Age from which an overlay must no longer be taken for the present."""


class Status(Struct, frozen=True, tag="status"):
    """Sent at every change and at least four times a second: its absence means the viewer is gone."""

    clock_ms: float
    connected: bool
    """The daemon was heard within the last second."""
    problem: str
    """Empty, or what arrives instead of results; for people."""
    sources: list[SourceStatus]
    """By name."""


class Pong(Struct, frozen=True, tag="pong"):
    """The answer to a ping."""

    sent: float
    """As in the ping."""
    clock_ms: float


class Ack(Struct, frozen=True, tag="ack"):
    """From a page: the picture of this source is drawn, another may come."""

    source: str


class Ping(Struct, frozen=True, tag="ping"):
    """From a page: a question for the time."""

    sent: float
    """Milliseconds on the page's clock; comes back unchanged."""


MAX_PAGE_MESSAGE_BYTES = 1024

_encoder = msgspec.json.Encoder()
_page_decoder: msgspec.json.Decoder[Ack | Ping] = msgspec.json.Decoder(Ack | Ping)


def encode(message: Hello | Status | Pong) -> str:
    """Return the text of a message to a page."""
    return _encoder.encode(message).decode()


def decode_from_page(text: str) -> Ack | Ping:
    """Read a message from a page.

    :raises msgspec.DecodeError: if it is none.
    """
    return _page_decoder.decode(text)


def pack_picture(received: Received, view: View) -> bytes:
    """Return the binary message for an analysis."""
    header = encode_analysis(received.analysis)[:-1] + b',"view":' + _encoder.encode(view) + b"}"
    mask = b"" if received.mask is None else received.mask.tobytes()
    return b"".join((len(header).to_bytes(4, "little"), header, mask, received.picture or b""))
