"""From a URI to an open source."""

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from streamer.sources.base import Source, SourceOptions, SourceUnavailable


class SourceKind(NamedTuple):
    """How one kind of feed is recognised and opened."""

    example: str
    opener: str
    """`module:function` taking (uri, options); imported when used: a missing library costs only its kind."""


# Scheme -> kind. Plain paths have no scheme: see `parse_uri`.
KINDS: dict[str, SourceKind] = {
    "phantom": SourceKind("phantom:", "streamer.sources.phantom:open_phantom"),
    "v4l2": SourceKind("v4l2:///dev/video0", "streamer.sources.libav:open_device"),
    "x11grab": SourceKind("x11grab::0.0", "streamer.sources.libav:open_device"),
    "lavfi": SourceKind("lavfi:testsrc=size=800x600:rate=30", "streamer.sources.libav:open_device"),
    "rtsp": SourceKind("rtsp://host/stream", "streamer.sources.libav:open_stream"),
    "rtmp": SourceKind("rtmp://host/app/stream", "streamer.sources.libav:open_stream"),
    "srt": SourceKind("srt://host:port", "streamer.sources.libav:open_stream"),
    "udp": SourceKind("udp://host:port", "streamer.sources.libav:open_stream"),
    "tcp": SourceKind("tcp://host:port", "streamer.sources.libav:open_stream"),
    "http": SourceKind("http://host/stream", "streamer.sources.libav:open_stream"),
    "https": SourceKind("https://host/stream", "streamer.sources.libav:open_stream"),
    "file": SourceKind("clip.mp4", "streamer.sources.libav:open_file"),
    "images": SourceKind("folder/", "streamer.sources.images:open_images"),
    "dicom": SourceKind("study.dcm", "streamer.sources.dicom:open_dicom"),
    "mcap": SourceKind("study.mcap", "streamer.sources.mcap:open_mcap"),
    "igtl": SourceKind("igtl://host:18944", "streamer.sources.openigtlink:open_openigtlink"),
    "zmq+tcp": SourceKind("zmq+tcp://127.0.0.1:5555", "streamer.sources.zeromq:open_zeromq"),
    "zmq+ipc": SourceKind("zmq+ipc:///run/frames.ipc", "streamer.sources.zeromq:open_zeromq"),
}


# Of a URL's query, such as srt's passphrase or a camera's token.
_SECRET_OPTION = re.compile(
    r"([?&][^=&#\s]*(?:pass|pwd|secret|token|key|auth|sig|user|login|cred)[^=&#\s]*=)[^&#\s\"']+",
    re.IGNORECASE,
)


def parse_uri(uri: str) -> str:
    """Name the kind of feed a URI means, without opening anything but the file system.

    :raises SourceUnavailable: if the scheme is unknown or a path does not exist.
    """
    scheme, separator, _ = uri.partition(":")
    if separator and scheme in KINDS:
        return scheme
    if uri.startswith("/dev/"):
        if not _exists(uri):
            raise SourceUnavailable(f"no such device: {uri} (`sonostream doctor` lists capture devices)")
        return "v4l2"
    if separator and "://" in uri:
        known = ", ".join(kind.example for kind in KINDS.values())
        raise SourceUnavailable(
            f"unknown kind of source {scheme!r} in {without_credentials(uri)!r}; known are: {known}"
        )
    path = Path(uri)
    if _exists(uri):
        return "images" if path.is_dir() else _kind_of_file(path)
    raise SourceUnavailable(
        f"no such file or folder: {without_credentials(uri)!r}, and not a known kind of source either"
    )


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # a name too long for any file, or a folder that is closed to us
        return False


def _kind_of_file(path: Path) -> str:
    if path.suffix.lower() in (".dcm", ".dicom"):
        return "dicom"
    if path.suffix.lower() == ".mcap":
        return "mcap"
    if not path.is_file():  # a pipe gives its first bytes only once
        return "file"
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return "file"
    return "dicom" if head[128:] == b"DICM" else "file"


def open_source(uri: str, options: SourceOptions | None = None) -> Source:
    """Open the feed that a URI names.

    :raises SourceUnavailable: if it cannot be opened; the message says why and what to do.
    """
    module, _, function = KINDS[parse_uri(uri)].opener.partition(":")
    opener: Callable[[str, SourceOptions], Source] = getattr(import_module(module), function)
    return opener(uri, options or SourceOptions())


def without_credentials(text: str) -> str:
    """Replace users, passwords and secret options in a text's URLs, for anything shown or logged."""
    # Up to the last @ of the address: a password may hold one.
    text = re.sub(r"(?<=://)[^/?#\s]+@", "***@", text)
    return _SECRET_OPTION.sub(r"\1***", text)
