"""A recording whose pictures carry their own number and whose lesion moves by a known step."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamer.analysis import Classes, Region, Size
from streamer.frame import FeedState, Frame, Pixels
from streamer.recorder import Recorder
from streamer.sinks import Result
from tests.streamer.results import LESION, analysis
from tests.streamer.sources.clips import number_of, numbered

WIDTH, HEIGHT = 320, 240
REGION = Region(40, 30, WIDTH, HEIGHT)
FRAMES = 24
NAMES = ["normal", "benign", "malignant"]
STEP_NS = 40_000_000
FROZEN = frozenset({9, 10})
EMPTY = frozenset({3})


def left_of(number: int) -> int:
    """First column of the lesion, in pixels of the region."""
    return 20 + 8 * number


def screen(number: int, *, colour: bool = False) -> Pixels:
    whole = np.zeros((HEIGHT + 60, WIDTH + 80), np.uint8)
    whole[30 : 30 + HEIGHT, 40 : 40 + WIDTH] = numbered(number)
    return np.repeat(whole[:, :, None], 3, axis=2) if colour else whole


def result(number: int, **changes: Any) -> Result:
    """A result whose lesion is a rectangle of 60 x 40 pixels; a malignant one from the middle on."""
    left, top = 40 + left_of(number), 30 + 100
    contour = [(left, top), (left + 60, top), (left + 60, top + 40), (left, top + 40)]
    lesion = msgspec.structs.replace(
        LESION,
        track=1 if number < 16 else 2,
        contour=[(float(x), float(y)) for x, y in contour],
        box=(float(left), float(top), 60.0, 40.0),
        area_px=2400.0 + number,
        area_mm2=24.0,
        longest_mm=7.2,
        perpendicular_mm=4.0,
        label="malignant",
    )
    malignancy = 0.8 * number / FRAMES
    classes = Classes(NAMES, [0.1, 0.9 - malignancy, malignancy], [0.1, 0.9 - malignancy, malignancy],
                      "malignant" if number > 12 else "benign", number > 5, malignancy)  # fmt: skip
    values: dict[str, Any] = {
        "region": REGION,
        "frame": Size(WIDTH + 80, HEIGHT + 60),
        "frame_id": 100 + number,
        "captured_monotonic": 10**12 + number * STEP_NS,
        "captured_at": 1_750_000_000 * 10**9 + number * STEP_NS,
        "pixel_spacing_mm": (0.1, 0.2),
        "classes": classes,
        "lesions": [] if number in EMPTY else [lesion],
    }
    if number in FROZEN:
        values |= {"state": FeedState.FROZEN, "classes": None, "lesions": [], "mask": None}
    made = analysis(number, **(values | changes))
    return Result(
        made,
        bytes(range(12)),
        Frame(screen(number), "probe", number, made.captured_monotonic, made.captured_at, made.clock),
    )


def record(path: Path, frames: int = FRAMES, **options: Any) -> Path:
    """Record so many frames."""
    coding, changes = options.pop("coding", "png"), options.pop("changes", {})
    recorder = Recorder(
        path, pictures=options.pop("pictures", True), coding=coding, config="", publisher="test"
    )
    recorder.start()
    for number in range(frames):
        recorder.offer(result(number, **changes), wait=True)
    recorder.stop()
    return path


def code_of(picture: Pixels, *, scale: int = 1) -> int:
    """Read a picture's number, from a picture that may be enlarged."""
    gray = picture if picture.ndim == 2 else picture[..., 1]
    return number_of(np.ascontiguousarray(gray[::scale, ::scale]))
