"""Everything that takes bytes from strangers, as functions that may fail in the announced way only.

Any other exception is a fault. `test_seeds.py` runs the seeds and what hypothesis makes of them; `run.py`
lets a coverage-guided fuzzer loose on one target.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import msgspec
import numpy as np
import zmq

from models.artifact import ArtifactError, load_artifact
from streamer.analysis import Mask
from streamer.config import ConfigError, load_config
from streamer.keys import KeysError, ServerKeys
from streamer.sources import SourceError, SourceInvalidFrame, open_source
from streamer.sources.pictures import decode_gray
from streamer.sources.zeromq import ZeromqSource
from streamer.wire import WireError, decode, encode_analysis
from tests.fuzz import formats
from tests.models.tiny import tiny_card, tiny_model
from tests.streamer.results import result

_FOLDER = Path(tempfile.mkdtemp(prefix="sonostream-fuzz-"))
_SPLIT = b"\n--part--\n"


def _received(parts: list[bytes]) -> None:
    source = object.__new__(ZeromqSource)  # the socket is ZeroMQ's business, what comes out of it is ours
    source._endpoint, source._topic = "tcp://127.0.0.1:1", None
    source.parse([zmq.Frame(part) for part in parts], time.monotonic_ns())


def zeromq_frame(data: bytes) -> None:
    """`[source, header, payload]`."""
    try:
        _received([b"probe", *data.split(_SPLIT, 1)] if _SPLIT in data else [b"probe", data, b""])
    except SourceInvalidFrame:
        return


def imagezmq_frame(data: bytes) -> None:
    """Imagezmq's two parts."""
    try:
        _received(data.split(_SPLIT, 1) if _SPLIT in data else [data, b""])
    except SourceInvalidFrame:
        return


def wire(data: bytes) -> None:
    """What a subscriber gets."""
    for channel in (b"sonostream/analysis/a", b"sonostream/event/a"):
        try:
            decode([channel, *data.split(_SPLIT)], received_monotonic=1)
        except WireError:
            continue


def picture(data: bytes) -> None:
    """A coded picture, from a file or a message."""
    try:
        decode_gray(data)
    except SourceInvalidFrame:
        return


def config(data: bytes) -> None:
    """A configuration file."""
    path = _FOLDER / "c.toml"
    path.write_bytes(data)
    try:
        load_config(path, environment={})
    except ConfigError:
        return


def artifact(data: bytes) -> None:
    """A model file."""
    path = _FOLDER / "m.onnx"
    path.write_bytes(data)
    try:
        load_artifact(path)
    except ArtifactError:
        return


def card(data: bytes) -> None:
    """The metadata inside a model file that is otherwise in order."""
    model = tiny_model()
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key = "sonostream"
    entry.value = data.decode(errors="replace")
    artifact(model.SerializeToString())


def keys(data: bytes) -> None:
    """A key file."""
    folder = _FOLDER / "keys"
    folder.mkdir(exist_ok=True, mode=0o700)
    for name in ("server.key", "allowed"):
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o600)
    try:
        ServerKeys(folder)
    except KeysError:
        return


def uri(data: bytes) -> None:
    """The options in a ZeroMQ source's address; nothing is bound."""
    try:
        open_source("zmq+nothing://" + data.decode(errors="replace"))
    except SourceError:
        return


class Target(NamedTuple):
    """A function and what it should accept or nearly accept."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


DEEP = b"[" * 100_000
_HEADER = {"frame_id": 3, "captured_at": 1, "shape": [4, 6], "dtype": "uint8", "encoding": "raw"}
_NOISE = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)


def _header(**changes: object) -> bytes:
    return json.dumps(_HEADER | changes).encode()


def _coded(suffix: str) -> bytes:
    return cv2.imencode(suffix, _NOISE)[1].tobytes()


def _analysis(**changes: object) -> bytes:
    return encode_analysis(msgspec.structs.replace(result(1).analysis, **changes))


_JSON_FAULTS = (
    b"",
    b"{",
    b"null",
    b"\xff\xfe{}",
    b'{"frame_id": NaN}',
    DEEP,
    b'{"a":' * 50_000,
    b"1e999",
    b'"\\ud800"',
)
_FRAMES = (
    _header() + _SPLIT + bytes(24),
    _header(shape=[65535, 65535]) + _SPLIT,
    _header(shape=[-4, -6]) + _SPLIT + bytes(24),
    _header(shape=[2**63, 2**63]) + _SPLIT,
    _header(shape=[4, 6, 2**31]) + _SPLIT,
    _header(captured_at=2**63) + _SPLIT + bytes(24),
    _header(pixel_spacing_mm=[1e-320, 1e308]) + _SPLIT + bytes(24),
    _header(pixel_spacing_mm=["a", None]) + _SPLIT,
    b'{"frame_id":1,"captured_at":1,"shape":[4,6],"x":' + DEEP,
    b'{"frame_id":1,"captured_at":1,"shape":[4,6],"\xff\xff":1}' + _SPLIT + bytes(24),
    b'{"frame_id":1,"captured_at":1,"shape":[4,6],"encoding":"\xff"}' + _SPLIT,
    *(_header(encoding="png", shape=[40, 30]) + _SPLIT + _coded(suffix) for suffix in (".png", ".jpg")),
    *_JSON_FAULTS,
)
_IMAGEZMQ = (
    b'{"msg": "pi", "dtype": "uint8", "shape": [4, 6]}' + _SPLIT + bytes(24),
    b'{"msg": "pi"}' + _SPLIT + _coded(".jpg"),
    b'{"msg": ' + DEEP,
    b'{"msg": "\xff", "dtype": "uint8", "shape": [4, 6]}' + _SPLIT + bytes(24),
    b'{"msg": 1, "dtype": "uint8", "shape": [0, 0]}' + _SPLIT,
    b'{"msg": 1, "dtype": "uint8", "shape": []}' + _SPLIT,
    b'{"msg": 1, "dtype": "uint8", "shape": [9223372036854775807, 2]}' + _SPLIT,
    *_JSON_FAULTS,
)
_WIRE = (
    _analysis() + _SPLIT + bytes(24),
    _analysis(mask=Mask(4, 6)) + _SPLIT + bytes(24),
    _analysis(mask=Mask(-4, -6)) + _SPLIT + bytes(24),
    _analysis(mask=Mask(2**40, 2**40)) + _SPLIT,
    _analysis()[:-1] + b',"later":' + DEEP,
    _analysis().replace(b'"source":"', b'"source":"\xff'),
    *_JSON_FAULTS,
)
_PICTURES = (
    *(_coded(suffix) for suffix in (".png", ".jpg", ".bmp", ".tiff")),
    *(_coded(suffix)[:60] for suffix in (".png", ".jpg", ".bmp", ".tiff")),
    _coded(".png")[:16] + b"\x00\x00\xff\xff\x00\x00\xff\xff" + _coded(".png")[24:],
    _coded(".png")[:16] + b"\xff" * 8 + _coded(".png")[24:],
    _coded(".png")[:33] + b"\xff\xff\xff\xff" + _coded(".png")[37:],
    _coded(".png")[:33] + b"\x7f\xff\xff\xfftEXt" + _coded(".png")[41:],
    _coded(".png")[:33] + b"\x00\x00\x00\x00tEXt\x00\x00\x00\x00" * 70_000,
    # Found by fuzzing: an end without pixels, after which OpenCV read on and took 3 GB for a chunk.
    _coded(".png")[:33] + bytes(4) + b"IEND" + bytes(7) + b"tEXt" + bytes(24) + b"\xbb\xa7\x8b\xff" * 20,
    _coded(".png")[:33] + (b"\x00\x00\x00\x14zTXtk\x00\x00" + bytes(21)) * 900 + _coded(".png")[33:],
    b"\xff\xd8" + b"\xff" * 60_000,
    b"\xff\xd8" + b"\xff\xfe\x00\x02" * 15_000,
    b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff",
    b"BM" + bytes(16) + b"\x00\x00\x00\x80" * 2 + bytes(20),
    b"",
)
_CONFIGS = (
    b'[http]\nport = 1\n[[source]]\nuri = "phantom:"\n',
    b"a = " + DEEP,
    b"a = " + b"{a=" * 20_000,
    b"a" + b".a" * 1000 + b" = 1",
    b"[http]\nport = nan\n",
    b"[http]\nport = inf\n",
    b"[feed]\nstale_after_s = nan\n",
    b"[feed]\nstale_after_s = inf\n",
    b"[http]\nport = 1" + b"0" * 5000,
    b'[[source]]\nuri = "\\u0000"\n',
    b'[[source]]\nuri = "' + b"a" * 5000 + b'"\n',
    b'[[source]]\nuri = "/dev/' + b"a" * 5000 + b'"\n',
    b'[[source]]\nuri = "zmq+tcp://[::1"\n',
    b'source = "x"\n',
    b"source = [1]\n",
    b"http = 3\n",
    b"\xff\xfe",
    b'[publish]\nbind = "tcp://999.0.0.1:99999"\n',
    b"",
)
_CARD = msgspec.json.encode(tiny_card())
_CARDS = (
    _CARD,
    _CARD[:-1] + b',"later":' + DEEP,
    _CARD.replace(b"24", b"1e400"),
    _CARD.replace(b'"tiny"', b"NaN"),
)
_URIS = (
    b"127.0.0.1:5555?mode=pull",
    b"[::1",
    b"[::1]:x?bind=\xff",
    b"a:b:c?mode=rep&mode=sub&topic=" + b"x" * 1000,
    b"//\x00\n",
)

TARGETS = {
    "zeromq_frame": Target(zeromq_frame, _FRAMES),
    "imagezmq_frame": Target(imagezmq_frame, _IMAGEZMQ),
    "wire": Target(wire, _WIRE),
    "picture": Target(picture, _PICTURES),
    "config": Target(config, _CONFIGS),
    "artifact": Target(artifact, (tiny_model().SerializeToString(), b"", b"\x08\x09")),
    "card": Target(card, (*_CARDS, *_JSON_FAULTS)),
    "keys": Target(keys, (b'public = "a"\nsecret = "b"\n', b"a = " + DEEP, b"\xff", b"name key\n")),
    "uri": Target(uri, _URIS),
    "openigtlink": Target(formats.openigtlink, formats.OPENIGTLINK),
    "dicom": Target(formats.dicom, formats.DICOM),
    "mcap": Target(formats.mcap, formats.MCAP),
    "page_message": Target(formats.page_message, formats.PAGE),
}
