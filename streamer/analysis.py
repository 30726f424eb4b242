"""What sonostream says about a frame: the typed form of the header on the wire.

Readers must ignore fields they don't know; within a schema number fields are only ever added. Points and
sizes are in pixels of the source's frame, with the origin at its top left corner (the first pixel's middle is
at 0.5, 0.5), unless a name ends in `_mm`. Instants named `_monotonic` are nanoseconds on the daemon's
CLOCK_MONOTONIC; `captured_at` and `at` are nanoseconds since the epoch.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from streamer.frame import Clock, FeedState

INTENDED_USE = "research only"
"""Said with every result."""

Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
Point = tuple[float, float]
"""(x, y)."""


class Size(Struct, frozen=True):
    """Pixels of a picture."""

    width: int
    height: int


class Region(Struct, frozen=True):
    """The part of a frame that shows ultrasound; nothing outside it is analysed or published."""

    x: int
    y: int
    width: int
    height: int


class Classes(Struct, frozen=True):
    """What the view shows, as class probabilities that sum to 1."""

    names: list[str]
    raw: list[Probability]
    """From this frame alone."""
    smoothed: list[Probability]
    """Accumulated over time; equal to `raw` where smoothing is off."""
    label: str
    """The class to show: follows `smoothed` with hysteresis."""
    stable: bool
    """The label has held, with its probability above the configured level, for the configured time."""
    malignancy: Probability
    """Smoothed calibrated probability of the class `malignant`; 0 where the model has none."""
    uncertain: bool = False
    """The evidence conflicts: `label` leads by too little to be called an answer."""


class Recent(Struct, frozen=True):
    """Measures of a lesion over the last second: (mean, standard deviation from frame to frame)."""

    frames: int
    """So many frames of the last second show the lesion."""
    area_px: tuple[float, float]
    longest_px: tuple[float, float]
    perpendicular_px: tuple[float, float]
    depth_px: tuple[float, float]
    area_mm2: tuple[float, float] | None = None
    """Like the other millimetres: None unless the source knows its pixel spacing."""
    longest_mm: tuple[float, float] | None = None
    perpendicular_mm: tuple[float, float] | None = None
    depth_mm: tuple[float, float] | None = None
    lateral_px: tuple[float, float] | None = None
    """Of the centroid from the region's middle line, to the right positive."""
    lateral_mm: tuple[float, float] | None = None


class Lesion(Struct, frozen=True):
    """One connected lesion of the smoothed mask."""

    track: int
    """Identity over time, counted per source from 1."""
    contour: list[tuple[float, float]]
    """Closed polygon of (x, y)."""
    box: tuple[float, float, float, float]
    """(x, y, width, height)."""
    area_px: float
    longest_px: float
    """Longest diameter."""
    perpendicular_px: float
    """Largest extent perpendicular to the longest diameter."""
    probability: Probability
    """Mean smoothed lesion probability inside the contour."""
    area_mm2: float | None = None
    """Like the other millimetres: None unless the source knows its pixel spacing."""
    longest_mm: float | None = None
    perpendicular_mm: float | None = None
    centre: tuple[float, float] = (0.0, 0.0)
    """(x, y) of the centroid."""
    depth_px: float = 0.0
    """Of the centroid below the region's top edge, where the probe is."""
    depth_mm: float | None = None
    lateral_mm: float | None = None
    """Of the centroid from the region's middle line, to the right positive."""
    age_s: float = 0.0
    """Since the lesion was first seen."""
    recent: Recent | None = None
    classes: list[Probability] = []
    """Class evidence of the frames that show this lesion, in the order of the frame's `names`."""
    label: str = ""
    """Like the frame's `label`, from the lesion's own evidence; so are `stable` and `uncertain`."""
    stable: bool = False
    uncertain: bool = False
    longest_ends: tuple[Point, Point] | None = None
    """Where the longest diameter is measured: in mm where the pixel spacing is known, else in pixels."""
    perpendicular_ends: tuple[Point, Point] | None = None
    """Of a line as long as the perpendicular extent and at right angles (in mm) to the longest diameter."""


class Quality(Struct, frozen=True):
    """How good the picture is to judge from; nothing is hidden because of it."""

    contact: Probability
    """Part of the probe's face that touches skin, by the echoes below it."""
    signal: Probability
    """Part of the picture that is neither black nor saturated."""
    sharpness: Probability
    """How much of the contrast is fine detail: from pixel to pixel against overall."""
    lesion_cut: bool
    """A lesion ends at the region's border: its true size is not seen."""


class Mask(Struct, frozen=True):
    """Layout of the mask bytes: the smoothed lesion probability over the region, 0 to 255."""

    width: int
    height: int
    encoding: Literal["raw"] = "raw"
    """`raw`: one byte per cell, row by row."""


class Latency(Struct, frozen=True):
    """Where the time between capture and publishing went, in seconds."""

    total: float
    stages: dict[str, float]
    """Keys in order: capture, wait, resize, inference, smoothing, lesions."""


class Model(Struct, frozen=True):
    """Which model answered, and on what."""

    name: str
    version: str
    runtime: str
    precision: str
    sha256: str


class Analysis(Struct, frozen=True, kw_only=True):
    """The answer for one frame of one source."""

    schema: Literal["sonostream.analysis/1"] = "sonostream.analysis/1"
    publisher: str
    """Changes when the daemon restarts, and with it `seq` and `frame_id` start over."""
    source: str
    seq: int
    """Counts the analyses of this source: a gap is the subscriber's own loss."""
    frame_id: int
    """Counts the frames of this source: a gap is what `dropped` explains."""
    state: FeedState
    """Unless it is `live`, the frame was not analysed: `classes` is None and `lesions` is empty."""
    captured_at: int
    captured_monotonic: int
    clock: Clock
    published_monotonic: int
    age: float
    """Seconds from capture to publishing."""
    media_time: float | None
    """Seconds into the clip or stream, where there is such a time."""
    frame: Size
    region: Region
    pixel_spacing_mm: tuple[float, float] | None
    """(row, column), or None where unknown."""
    classes: Classes | None
    lesions: list[Lesion]
    mask: Mask | None
    view_change: str | None
    """What changed in the view with this frame (see `smoothing.ViewChange`); None where nothing did."""
    latency: Latency
    dropped: dict[str, int]
    """Frames dropped since the previous analysis of this source, by reason."""
    model: Model
    intended_use: Literal["research only"] = "research only"
    raw_contours: list[list[tuple[float, float]]] = []
    """Outlines of this frame's lesions before smoothing, largest first; polygons of (x, y)."""
    quality: Quality | None = None
    """None where the frame was not analysed."""


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened to a source, or the regular sign that the daemon lives."""

    schema: Literal["sonostream.event/1"] = "sonostream.event/1"
    publisher: str
    source: str
    seq: int
    """Counts the events of this source."""
    kind: Literal["heartbeat", "state", "lost", "reconnected", "ended"]
    state: FeedState
    at: int
    monotonic: int
    detail: str = ""
    """For people; holds no URL, path or name of a patient."""
    captured: int = 0
    """Frames captured from this source so far."""
    analyzed: int = 0
    dropped: dict[str, int] = {}
    """Frames dropped so far, by reason."""


def json_schema() -> bytes:
    """Return the JSON Schema of analyses and events, for readers in any language."""
    schemas, components = msgspec.json.schema_components([Analysis, Event], ref_template="#/$defs/{name}")
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sonostream results",
        "oneOf": list(schemas),
        "$defs": components,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2)
