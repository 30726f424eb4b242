"""The work that cannot be avoided: decoding, one resize, the bare engine call."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import av
import msgspec
import numpy as np

from models.artifact import CLASSES, INPUT, LESION, Artifact
from models.fit import Fitter
from models.runtimes import Precision, load
from streamer.daemon import cache_directory
from streamer.frame import Pixels


class FloorSample(NamedTuple):
    """One frame's unavoidable work, in ms."""

    decode: float
    resize: float
    engine: float

    @property
    def total(self) -> float:
        """The sum: what the best conceivable program would need."""
        return self.decode + self.resize + self.engine


class FloorFeed(Protocol):
    """The frames of a run, once more, for the floor."""

    def decode(self) -> Pixels:
        """Return the next frame, H x W; for coded video, by decoding it with one thread."""


class FloorFrames(NamedTuple):
    """Where the frames of a run are kept for the floor, which is timed in another process."""

    file: Path
    """Raw frames as numpy's .npy, n x H x W; or packets in msgpack, from a key frame on."""
    codec: str | None = None
    """libav's name of the decoder; None: raw frames."""
    extradata: bytes = b""
    """What the decoder must know beforehand, where the packets do not say it."""

    def open(self) -> FloorFeed:
        """Read them into memory."""
        if self.codec is None:
            return RawFrames(np.load(self.file))
        return CodedFrames(
            self.codec, msgspec.msgpack.decode(self.file.read_bytes(), type=list[bytes]), self.extradata
        )


class RawFrames:
    """Frames that need no decoding."""

    def __init__(self, frames: Pixels) -> None:
        """Play frames, n x H x W."""
        self._frames, self._next = frames, 0

    def decode(self) -> Pixels:
        """Return the next frame, from the first again after the last."""
        frame: Pixels = self._frames[self._next % len(self._frames)]
        self._next += 1
        return frame


class CodedFrames:
    """Frames that must be decoded; packets are played over and over from a key frame."""

    def __init__(self, codec: str, packets: list[bytes], extradata: bytes = b"") -> None:
        """Prepare to decode; the first packet holds a key frame."""
        self._packets, self._next = packets, 0
        decoder = av.CodecContext.create(codec, "r")
        assert isinstance(decoder, av.VideoCodecContext)
        decoder.thread_count = 1
        if extradata:
            decoder.extradata = extradata
        self._decoder = decoder

    def decode(self) -> Pixels:
        """Decode packets up to the next frame and return its luma plane."""
        while True:
            packet = av.Packet(self._packets[self._next % len(self._packets)])
            self._next += 1
            for frame in self._decoder.decode(packet):
                plane = frame.planes[0]
                luma: Pixels = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
                return luma[: frame.height, : frame.width]


class Floor:
    """Times the three steps by themselves, with nothing of the live path around them.

    The engine is called through its own API, compiled as a careful person would: so that what a session of
    ours adds counts as overhead.
    """

    def __init__(
        self, artifact: Artifact, feed: FloorFeed, *, runtime: str, precision: str, threads: int
    ) -> None:
        """Compile the model by the runtime's own API and run it a few times."""
        size = artifact.card.input
        self._frame, self._engine = bare_engine(artifact, runtime, precision, threads)
        self._fitter = Fitter(size.width, size.height)
        self._feed = feed
        for _ in range(5):
            self.sample()

    def sample(self) -> FloorSample:
        """Do one frame's work."""
        start = time.perf_counter()
        frame = self._feed.decode()
        decoded = time.perf_counter()
        self._fitter.fit(frame, self._frame[0])
        fitted = time.perf_counter()
        self._engine()
        done = time.perf_counter()
        return FloorSample((decoded - start) * 1e3, (fitted - decoded) * 1e3, (done - fitted) * 1e3)


BareCall = Callable[[], object]


def _bare_openvino(artifact: Artifact, precision: str, threads: int, frame: Pixels) -> BareCall:
    import openvino as ov

    core = ov.Core()
    model = core.read_model(artifact.path)
    model.reshape({INPUT: list(frame.shape)})
    # Beside int8, a quantized model computes in whatever is fastest.
    fast = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
    config = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "int8": fast}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(threads),
    }
    request = core.compile_model(model, "CPU", config).create_infer_request()
    request.set_tensor(INPUT, ov.Tensor(frame, shared_memory=True))
    return lambda: request.infer(share_outputs=True)


def _bare_onnxruntime(artifact: Artifact, _precision: str, threads: int, frame: Pixels) -> BareCall:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(artifact.path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run((LESION, CLASSES), {INPUT: frame})


_BARE: dict[str, Callable[[Artifact, str, int, Pixels], BareCall]] = {
    "openvino": _bare_openvino,
    "onnxruntime": _bare_onnxruntime,
}


def bare_engine(artifact: Artifact, runtime: str, precision: str, threads: int) -> tuple[Pixels, BareCall]:
    """Compile a model by the runtime's own API; for one that is not written here, through our session.

    :return: its input, 1 x H x W x C, to be written in place, and the call that runs it.
    """
    size = artifact.card.input
    if runtime in _BARE:
        frame: Pixels = np.zeros((1, size.height, size.width, size.channels), np.uint8)
        return frame, _BARE[runtime](artifact, precision, threads, frame)
    session = load(
        artifact, runtime, precision=cast(Precision, precision), threads=threads, cache_dir=cache_directory()
    )
    session.warm_up()
    return session.input(1), lambda: session.infer(1)


def is_bare(runtime: str) -> bool:
    """Whether the runtime is called by its own API, with nothing of ours around it."""
    return runtime in _BARE
