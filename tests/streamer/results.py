"""Results as the analyzer makes them, for tests of what comes after it."""

import time
from typing import Any

import msgspec

from streamer.analysis import Analysis, Classes, Latency, Lesion, Mask, Model, Region, Size
from streamer.frame import Clock, FeedState, Frame, Pixels
from streamer.sinks import Result
from tests.streamer.scripted import picture

MODEL = Model("tiny", "1", "onnxruntime", "f32", "0" * 64)
LESION = Lesion(
    1, [(10.0, 10.0), (30.0, 10.0), (20.0, 30.0)], (10.0, 10.0, 20.0, 20.0), 200.0, 22.4, 17.9, 0.8
)


def analysis(seq: int = 0, *, source: str = "probe", **changes: Any) -> Analysis:
    """An analysis of a live frame, captured now."""
    now = time.monotonic_ns()
    made = Analysis(
        publisher="test",
        source=source,
        seq=seq,
        frame_id=seq,
        state=FeedState.LIVE,
        captured_at=time.time_ns(),
        captured_monotonic=now,
        clock=Clock.DEVICE,
        published_monotonic=now,
        age=0.0,
        media_time=None,
        frame=Size(160, 120),
        region=Region(0, 0, 160, 120),
        pixel_spacing_mm=None,
        classes=Classes(["benign", "malignant"], [0.2, 0.8], [0.3, 0.7], "malignant", True, 0.7),
        lesions=[LESION],
        mask=Mask(4, 3),
        view_change=None,
        latency=Latency(
            0.01, dict.fromkeys(("capture", "wait", "resize", "inference", "smoothing", "lesions"), 0.002)
        ),
        dropped={},
        model=MODEL,
    )
    return msgspec.structs.replace(made, **changes)


def result(seq: int = 0, *, source: str = "probe", pixels: Pixels | None = None, **changes: Any) -> Result:
    """The same on its way to the sinks."""
    made = analysis(seq, source=source, **changes)
    pixels = picture(seq) if pixels is None else pixels
    frame = Frame(pixels, source, seq, made.captured_monotonic, made.captured_at, made.clock)
    return Result(made, bytes(range(12)), frame)
