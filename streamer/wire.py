"""Messages over ZeroMQ: `[topic, header JSON, mask bytes, picture bytes?]`.

Topics are `sonostream/analysis/<source>`, `sonostream/preview/<source>` and `sonostream/event/<source>`. The
channel comes first because ZeroMQ selects by prefix: who wants the results of all sources must not have to
pay for their pictures. A preview is an analysis with a JPEG of the same frame's region: mask and picture
always belong together.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from streamer.analysis import Analysis, Event
from streamer.frame import Pixels

Channel = Literal["analysis", "preview", "event"]
CHANNELS: tuple[Channel, ...] = ("analysis", "preview", "event")

MAX_HEADER_BYTES = 1 << 20
MAX_MASK_SIDE = 4096

_encoder = msgspec.json.Encoder()
_analysis_decoder = msgspec.json.Decoder(Analysis)
_event_decoder = msgspec.json.Decoder(Event)


class WireError(ValueError):
    """A message that is not ours, or is broken; says which part and why."""


class Received(NamedTuple):
    """An analysis as a subscriber gets it."""

    analysis: Analysis
    mask: Pixels | None
    """Smoothed lesion probability over the region, H x W, 0 to 255; None unless the feed is live."""
    picture: bytes | None
    """JPEG of the region, on the preview channel."""
    received_monotonic: int
    """ns on the subscriber's CLOCK_MONOTONIC; comparable to the daemon's on the same machine only."""


def topic(source: str, channel: Channel) -> bytes:
    """Name the topic of one source's channel."""
    return f"sonostream/{channel}/{source}".encode()


def encode_analysis(analysis: Analysis) -> bytes:
    """Return the header's JSON."""
    return _encoder.encode(analysis)


def encode_event(event: Event) -> bytes:
    """Return the event's JSON."""
    return _encoder.encode(event)


def decode(parts: Sequence[bytes], *, received_monotonic: int) -> Received | Event:
    """Check and decode a multipart message.

    :param parts: as received from the socket, topic first.
    :param received_monotonic: when it arrived, ns on CLOCK_MONOTONIC.
    :raises WireError: if a part is missing, too large, or not of our schema.
    """
    if len(parts) < 2:
        raise WireError(f"a message has at least a topic and a header, this one has {len(parts)} parts")
    name, header = parts[0], parts[1]
    if not name.startswith(b"sonostream/") or len(name) > 512:
        raise WireError(f"not a sonostream topic: {name[:80]!r}")
    if len(header) > MAX_HEADER_BYTES:
        raise WireError(f"header of {len(header)} bytes, at most {MAX_HEADER_BYTES} are allowed")
    try:
        if name.startswith(b"sonostream/event/"):
            return _event_decoder.decode(header)
        analysis = _analysis_decoder.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"header on {name.decode(errors='replace')}: {error}") from None
    mask = _decode_mask(analysis, parts[2] if len(parts) > 2 else b"")
    return Received(analysis, mask, parts[3] if len(parts) > 3 else None, received_monotonic)


def _decode_mask(analysis: Analysis, data: bytes) -> Pixels | None:
    layout = analysis.mask
    if layout is None:
        return None
    if not (0 < layout.width <= MAX_MASK_SIDE and 0 < layout.height <= MAX_MASK_SIDE):
        raise WireError(
            f"mask of {layout.width} x {layout.height}, at most {MAX_MASK_SIDE} a side is allowed"
        )
    if len(data) != layout.width * layout.height:
        raise WireError(f"mask of {layout.width} x {layout.height} needs as many bytes, got {len(data)}")
    return np.frombuffer(data, dtype=np.uint8).reshape(layout.height, layout.width)
