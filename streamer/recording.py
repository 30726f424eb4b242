"""Recordings: MCAP files of pictures, masks, analyses and events, which Foxglove opens too.

Every message goes to disk in a chunk of its own, so that a process that is killed loses nothing it had
handed over: a file without its end is read up to where it breaks off. Topics are `/<source>/picture`,
`/<source>/mask`, `/<source>/analysis` and `/<source>/event`; the log time is the capture instant, and the
messages of one frame have one sequence number, the analysis last.
"""

import base64
import binascii
import logging
import os
import struct
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, BinaryIO, NamedTuple, cast

import msgspec

from streamer.analysis import Analysis, Event
from streamer.wire import encode_analysis, encode_event

try:
    import zstandard
    from mcap.data_stream import ReadDataStream
    from mcap.exceptions import McapError
    from mcap.opcode import Opcode
    from mcap.records import Channel, Chunk, Message
    from mcap.stream_reader import breakup_chunk
    from mcap.writer import CompressionType, Writer
except ImportError:
    from streamer.sources.base import SourceUnavailable

    raise SourceUnavailable("recordings need mcap: pip install 'sonostream[formats]'") from None

log = logging.getLogger(__name__)

MAX_RECORD_BYTES = 256 << 20
"""No record or chunk of a recording is larger; a file that claims more is refused."""
_MAGIC = b"\x89MCAP0\r\n"
_SOURCE, _CONFIG = "sonostream.source", "sonostream.config"

_TIME = {"type": "object", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}}
_IMAGE_SCHEMA: dict[str, Any] = {
    "title": "foxglove.CompressedImage",
    "type": "object",
    "properties": {
        "timestamp": {"title": "time", **_TIME},
        "frame_id": {"type": "string"},
        "data": {"type": "string", "contentEncoding": "base64"},
        "format": {"type": "string"},
    },
}
_VIDEO_SCHEMA = _IMAGE_SCHEMA | {"title": "foxglove.CompressedVideo"}


class RecordingError(ValueError):
    """A recording cannot be written or read; says which and why."""


class RecordingExists(RecordingError):
    """There is a file of that name already."""


class Picture(NamedTuple):
    """A coded picture of a frame's region."""

    data: bytes
    format: str
    """`png` or `jpeg`; `ffv1` or `h264` for a packet of video, to be decoded in order."""
    full_range: bool = True
    """False for limited-range luma (16 to 235), kept as the source gave it."""
    setup: bytes = b""
    """What a decoder of the video must be given first."""
    colour: bool = False
    """Of video: the picture was RGB, not gray."""


class Recorded(NamedTuple):
    """One frame as it was recorded."""

    analysis: Analysis
    mask: bytes | None
    """PNG of the smoothed lesion probability over the region; None where the frame was not analysed."""
    picture: Picture | None


class Overview(NamedTuple):
    """What a recording holds, without its pictures."""

    sources: tuple[str, ...]
    length_ns: int
    config: str
    """The resolved configuration, TOML; empty where a client recorded."""


class _Image(msgspec.Struct):
    timestamp: dict[str, int]
    frame_id: str
    data: str
    format: str


class _Output:
    """A file that holds whole messages only: one that does not fit on the disk leaves no trace."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._waiting = bytearray()
        self._good = 0

    def write(self, data: bytes) -> int:
        self._waiting += data
        return len(data)

    def tell(self) -> int:
        return self._good + len(self._waiting)

    def flush(self) -> None:
        view, at = memoryview(bytes(self._waiting)), 0
        try:
            while at < len(view):
                at += os.write(self._fd, view[at:])
        except OSError:
            os.ftruncate(self._fd, self._good)
            os.lseek(self._fd, self._good, os.SEEK_SET)
            raise
        self._good += at
        self._waiting.clear()

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class RecordingWriter:
    """Writes one recording; for one thread."""

    def __init__(self, path: Path, *, config: str = "", version: str = "") -> None:
        """Create the file, readable by its owner only.

        :param config: the resolved configuration as TOML, kept in the file.
        :raises RecordingExists: if there is such a file already.
        :raises RecordingError: if it cannot be created.
        """
        try:
            self._output = _Output(path)
        except FileExistsError:
            raise RecordingExists(
                f"{path} exists already: recordings are never overwritten, choose another name"
            ) from None
        except OSError as error:
            raise RecordingError(f"cannot record to {path}: {error.strerror}") from None
        # A chunk size this small closes the chunk after every message.
        self._writer = Writer(cast(IO[bytes], self._output), chunk_size=1, compression=CompressionType.ZSTD)
        self._writer.start(profile="", library=f"sonostream {version}".strip())
        self._schemas: dict[str, int] = {}
        self._channels: dict[tuple[str, str, str, tuple[tuple[str, str], ...]], int] = {}
        self._sources: set[str] = set()
        self.held: Analysis | None = None
        """The frame that waits for room on the disk."""
        if config:
            self._writer.add_metadata(_CONFIG, {"toml": config})
        self._output.flush()

    def add(self, analysis: Analysis, mask: bytes | None, picture: Picture | None) -> None:
        """Write one frame.

        :param mask: PNG of it, where there is one.
        :raises OSError: if the disk is full; the file stays whole, and later frames may succeed. A frame that
            was begun is then `held`, and goes first when there is room.
        """
        self._output.flush()  # what did not fit before goes first, and nothing piles up
        self.held = None
        at, sequence, source = analysis.captured_at, analysis.seq, analysis.source
        self._introduce(source)
        if mask is not None:
            self._add_image(source, "mask", Picture(mask, "png"), at, sequence)
        if picture is not None:
            self._add_image(source, "picture", picture, at, sequence)
        self._message(source, "analysis", encode_analysis(analysis), at, sequence, "sonostream.Analysis")
        self.held = analysis
        self._output.flush()
        self.held = None

    def add_event(self, event: Event) -> None:
        """Write that something happened to a source.

        :raises OSError: if the disk is full.
        """
        self._output.flush()
        self._introduce(event.source)
        self._message(event.source, "event", encode_event(event), event.at, event.seq, "sonostream.Event")
        self._output.flush()

    def sync(self) -> None:
        """Make what was written survive a loss of power."""
        self._output.sync()

    def close(self) -> None:
        """Write the index and close.

        :raises OSError: if the disk is full; all the frames written so far stay readable.
        """
        try:
            self._output.flush()
            self.held = None
            self._writer.finish()  # type: ignore[no-untyped-call]
            self._output.flush()
            self._output.sync()
        finally:
            self._output.close()

    def _introduce(self, source: str) -> None:
        if source not in self._sources:
            self._sources.add(source)
            self._writer.add_metadata(_SOURCE, {"name": source})

    def _add_image(self, source: str, kind: str, picture: Picture, at: int, sequence: int) -> None:
        sec, nsec = divmod(at, 1_000_000_000)
        image = _Image(
            {"sec": sec, "nsec": nsec}, source, base64.b64encode(picture.data).decode(), picture.format
        )
        about = {} if picture.full_range else {"full_range": "false"}
        if picture.setup:
            about["setup"] = base64.b64encode(picture.setup).decode()
        if picture.colour:
            about["colour"] = "true"
        video = picture.format in ("ffv1", "h264")
        schema = _VIDEO_SCHEMA if video else _IMAGE_SCHEMA
        self._message(source, kind, msgspec.json.encode(image), at, sequence, schema["title"], about)

    def _message(
        self,
        source: str,
        kind: str,
        data: bytes,
        at: int,
        sequence: int,
        schema: str,
        about: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        key = (source, kind, schema, tuple(about.items()))
        if key not in self._channels:
            self._channels[key] = self._writer.register_channel(
                f"/{source}/{kind}", "json", self._schema(schema), dict(about)
            )
        self._writer.add_message(
            self._channels[key], log_time=at, data=data, publish_time=at, sequence=sequence & 0xFFFFFFFF
        )

    def _schema(self, name: str) -> int:
        if name not in self._schemas:
            structs: dict[str, type[msgspec.Struct]] = {
                "sonostream.Analysis": Analysis,
                "sonostream.Event": Event,
            }
            images = {each["title"]: each for each in (_IMAGE_SCHEMA, _VIDEO_SCHEMA)}
            schema = viewer_schema(structs[name]) if name in structs else images[name]
            self._schemas[name] = self._writer.register_schema(
                name, "jsonschema", msgspec.json.encode(schema)
            )
        return self._schemas[name]


def viewer_schema(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Return a record's JSON Schema without references and alternatives, which viewers do not follow."""
    (reference,), definitions = msgspec.json.schema_components([struct], ref_template="{name}")

    def plain(schema: Mapping[str, Any]) -> dict[str, Any]:
        if "$ref" in schema:
            return plain(definitions[schema["$ref"]])
        if "anyOf" in schema:
            return plain(next(each for each in schema["anyOf"] if each.get("type") != "null"))
        if "enum" in schema or "const" in schema:
            return {"type": "string"}
        kind = schema.get("type", "object")
        if kind == "array":
            items = schema.get("items") or next(iter(schema.get("prefixItems", ())), {"type": "number"})
            return {"type": "array", "items": plain(items)}
        if kind == "object" and "properties" in schema:
            properties = {name: plain(each) for name, each in schema["properties"].items()}
            return {"type": "object", "title": schema.get("title", ""), "properties": properties}
        return {"type": kind}

    return plain(reference)


def survey(path: Path) -> Overview:
    """Look through a recording without reading its pictures.

    :raises RecordingError: if it is not one of ours, or cannot be read.
    """
    sources: list[str] = []
    first = last = 0
    config = ""
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise RecordingError(f"{path} is not an MCAP file")
            while len(head := file.read(9)) == 9:
                opcode, length = struct.unpack("<BQ", head)
                if opcode == Opcode.CHUNK:
                    start, end = struct.unpack("<QQ", file.read(16))
                    # A chunk that only introduces a channel has no time.
                    if end:
                        first, last = min(first or start, start), max(last, end)
                    file.seek(length - 16, os.SEEK_CUR)
                elif opcode == Opcode.METADATA and length <= 1 << 20:
                    name, values = _metadata(file.read(length))
                    if name == _SOURCE and len(sources) < 1024:
                        sources.append(values.get("name", ""))
                    elif name == _CONFIG:
                        config = values.get("toml", "")
                elif opcode in (Opcode.DATA_END, Opcode.FOOTER):
                    break
                else:
                    file.seek(length, os.SEEK_CUR)
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}") from None
    except RecordingError:
        raise
    except (struct.error, ValueError, OverflowError):
        pass  # cut short, or a record longer than any file: what came before counts
    if not sources:
        raise RecordingError(f"{path} holds nothing that sonostream recorded")
    return Overview(tuple(dict.fromkeys(sources)), max(0, last - first), config)


def _metadata(data: bytes) -> tuple[str, dict[str, str]]:
    def text(at: int) -> tuple[str, int]:
        (length,) = struct.unpack_from("<I", data, at)
        return data[at + 4 : at + 4 + length].decode(), at + 4 + length

    name, at = text(0)
    (size,) = struct.unpack_from("<I", data, at)
    at, end, values = at + 4, at + 4 + size, {}
    while at < min(end, len(data)):
        key, at = text(at)
        values[key], at = text(at)
    return name, values


def read_recording(path: Path) -> Iterator[Recorded | Event]:
    """Yield frames and events in the order they were recorded; a file without its end, up to there.

    :raises RecordingError: if it cannot be read or is damaged.
    """
    analyses, events = msgspec.json.Decoder(Analysis), msgspec.json.Decoder(Event)
    images = msgspec.json.Decoder(_Image)
    parts: dict[str, dict[str, tuple[int, Picture]]] = {}
    try:
        for channel, message in _messages(path):
            source, _, kind = channel.topic.removeprefix("/").rpartition("/")
            if kind in ("picture", "mask"):
                image = images.decode(message.data)
                data = base64.b64decode(image.data, validate=True)
                about = channel.metadata
                picture = Picture(
                    data,
                    image.format,
                    about.get("full_range") != "false",
                    base64.b64decode(about.get("setup", ""), validate=True),
                    about.get("colour") == "true",
                )
                if source not in parts and len(parts) >= 1024:
                    raise RecordingError(f"{path}: more than 1024 sources")
                parts.setdefault(source, {})[kind] = (message.sequence, picture)
            elif kind == "event":
                yield events.decode(message.data)
            elif kind == "analysis":
                analysis = analyses.decode(message.data)
                mine = {k: p for k, (n, p) in parts.pop(source, {}).items() if n == message.sequence}
                mask = mine.get("mask")
                yield Recorded(analysis, None if mask is None else mask.data, mine.get("picture"))
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error) as error:
        raise RecordingError(f"{path}: a damaged message: {error}") from None


def _messages(path: Path) -> Iterator[tuple[Channel, Message]]:
    channels: dict[int, Channel] = {}
    try:
        with path.open("rb") as file:
            for data in _chunks(path, file):
                chunk = Chunk.read(ReadDataStream(BytesIO(data)))
                _check_chunk(path, chunk)
                for inner in breakup_chunk(chunk, validate_crc=True):
                    if isinstance(inner, Channel):
                        channels[inner.id] = inner
                    elif isinstance(inner, Message) and inner.channel_id in channels:
                        yield channels[inner.channel_id], inner
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}") from None
    except (McapError, ValueError, OverflowError, LookupError, struct.error, zstandard.ZstdError) as error:
        if isinstance(error, RecordingError | msgspec.MsgspecError):
            raise
        raise RecordingError(f"{path} is damaged: {error}") from None


def _chunks(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """Yield the chunks of a file, up to its end or to where it is cut off."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise RecordingError(f"{path} is not an MCAP file")
    while len(head := file.read(9)) == 9:
        opcode, length = struct.unpack("<BQ", head)
        if opcode in (Opcode.DATA_END, Opcode.FOOTER):
            return
        if length > MAX_RECORD_BYTES:
            raise RecordingError(f"{path} is damaged: a record of {length >> 20} MB")
        if opcode != Opcode.CHUNK:
            file.seek(length, os.SEEK_CUR)
        elif len(data := file.read(length)) == length:
            yield data
        else:
            break
    log.info("%s ends without its index: its recorder was killed", path)


def _check_chunk(path: Path, chunk: Chunk) -> None:
    """Refuse a chunk that would unpack to more than a picture can need."""
    size = chunk.uncompressed_size
    if chunk.compression == "zstd":
        size = max(size, zstandard.frame_content_size(chunk.data))
    elif chunk.compression:
        raise RecordingError(
            f"{path}: chunks packed with {chunk.compression} were not recorded by sonostream"
        )
    if size > MAX_RECORD_BYTES:
        raise RecordingError(f"{path}: a chunk of {size >> 20} MB, at most {MAX_RECORD_BYTES >> 20} are read")
