"""A frame with its contours and its result burned in, for people."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.analysis import Analysis, Lesion
from streamer.extract.frames import USE, Shown
from streamer.frame import FeedState, Pixels

# The page's colours (streamer/view/page/palette.js), RGB.
COLOURS = {"normal": (183, 192, 202), "benign": (86, 180, 233), "malignant": (255, 157, 60)}
_OTHER, _UNCERTAIN, _TEXT, _DIM, _WARN = (
    (204, 121, 167), (255, 255, 255), (214, 220, 226), (152, 163, 175), (255, 213, 74),
)  # fmt: skip
_GROUND = (16, 20, 25)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MIN_WIDTH = 640
STRIP = 58
"""Rows under the picture that hold the text."""
_SUBPIXEL = 4
_DASH, _GAP = 9.0, 6.0

Points = NDArray[np.float64]


def canvas_size(pixels: Pixels | None, analysis: Analysis) -> tuple[int, int]:
    """Return the (width, height) of a drawn frame: the picture, enlarged if it is small, and the strip."""
    width, height = analysis.region.width, analysis.region.height
    if pixels is not None:
        height, width = pixels.shape[:2]
    scale = max(1, math.ceil(_MIN_WIDTH / width))
    width, height = width * scale, height * scale
    return width + width % 2, height + height % 2 + STRIP


def draw(shown: Shown, size: tuple[int, int]) -> Pixels:
    """Draw a frame.

    :param size: (width, height), from `canvas_size`; a picture of other proportions is fitted in.
    :return: H x W x 3 RGB.
    """
    width, height = size
    canvas: Pixels = np.full((height, width, 3), _GROUND, np.uint8)
    stage = canvas[: height - STRIP]
    stage[:] = 0
    analysis = shown.analysis
    if shown.pixels is None:
        _put(stage, "picture missing", (16, 32), 0.7, _WARN)
    else:
        _draw_picture(stage, shown.pixels, analysis)
    _draw_strip(canvas[height - STRIP :], shown, analysis)
    return canvas


def colour_of(analysis: Analysis) -> tuple[int, int, int]:
    """Return the colour of a frame's lesions: its class's once that is stable, white until then."""
    classes = analysis.classes
    if classes is None or not classes.stable or classes.label == "normal":
        return _UNCERTAIN
    return COLOURS.get(classes.label, _OTHER)


def _draw_picture(stage: Pixels, pixels: Pixels, analysis: Analysis) -> None:
    rows, columns = stage.shape[:2]
    height, width = pixels.shape[:2]
    scale = min(columns / width, rows / height)
    shown_width, shown_height = round(width * scale), round(height * scale)
    left, top = (columns - shown_width) // 2, (rows - shown_height) // 2
    interpolation = cv2.INTER_LINEAR if scale >= 1 else cv2.INTER_AREA
    picture = cv2.resize(pixels, (shown_width, shown_height), interpolation=interpolation)
    if picture.ndim == 2:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
    place = stage[top : top + shown_height, left : left + shown_width]
    place[:] = picture
    region = analysis.region
    to_stage = np.array([shown_width / region.width, shown_height / region.height])
    for lesion in analysis.lesions:
        # The wire's points start at the corner of the first pixel, OpenCV's at its centre.
        points = (np.asarray(lesion.contour) - (region.x, region.y)) * to_stage - 0.5
        _draw_contour(place, points, colour_of(analysis))
        for ends in (lesion.longest_ends, lesion.perpendicular_ends):
            if ends is not None:
                _draw_caliper(place, (np.asarray(ends) - (region.x, region.y)) * to_stage - 0.5, analysis)
    for lesion in analysis.lesions:
        _draw_name(place, lesion, analysis, to_stage)


def _draw_contour(picture: Pixels, points: Points, colour: tuple[int, int, int]) -> None:
    if len(points) < 3:
        return
    _polyline(picture, points, (0, 0, 0), 4, closed=True)
    if colour != _UNCERTAIN:
        _polyline(picture, points, colour, 2, closed=True)
        return
    for dash in _dashes(points):
        _polyline(picture, dash, colour, 2, closed=False)


def _draw_caliper(picture: Pixels, ends: Points, analysis: Analysis) -> None:
    """Mark where a diameter is measured with a cross at each end."""
    for x, y in np.round(ends).astype(int).tolist():
        for colour, thickness in (((0, 0, 0), 3), (colour_of(analysis), 1)):
            cv2.drawMarker(picture, (x, y), colour, cv2.MARKER_CROSS, 11, thickness, cv2.LINE_AA)


def _polyline(
    picture: Pixels, points: Points, colour: tuple[int, int, int], thickness: int, *, closed: bool
) -> None:
    fixed = np.round(points * (1 << _SUBPIXEL)).astype(np.int32)
    cv2.polylines(picture, [fixed], closed, colour, thickness, cv2.LINE_AA, _SUBPIXEL)


def _dashes(points: Points) -> list[Points]:
    """Cut a closed polygon into dashes."""
    ring = np.vstack([points, points[:1]])
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(ring, axis=0).T))])
    dashes = []
    for start in np.arange(0, along[-1], _DASH + _GAP):
        end = min(start + _DASH, along[-1])
        inner = along[(along > start) & (along < end)]
        at = np.concatenate([[start], inner, [end]])
        dashes.append(np.stack([np.interp(at, along, ring[:, i]) for i in (0, 1)], axis=1))
    return dashes


def _draw_name(picture: Pixels, lesion: Lesion, analysis: Analysis, to_stage: Points) -> None:
    left, top, _, height = lesion.box
    x = round((left - analysis.region.x) * to_stage[0])
    above = round((top - analysis.region.y) * to_stage[1]) - 9
    below = round((top + height - analysis.region.y) * to_stage[1]) + 20
    words = f"{lesion.track}  {diameters(lesion)}"
    (width, _), _ = cv2.getTextSize(words, _FONT, 0.5, 1)
    x = min(max(4, x), max(4, picture.shape[1] - width - 4))
    y = above if above > 16 else min(below, picture.shape[0] - 6)
    _put(picture, words, (x, y), 0.5, colour_of(analysis))


def diameters(lesion: Lesion) -> str:
    """Word a lesion's size: in mm, or in pixels where the spacing is unknown."""
    if lesion.longest_mm is None or lesion.perpendicular_mm is None:
        return f"{lesion.longest_px:.0f} x {lesion.perpendicular_px:.0f} px"
    return f"{lesion.longest_mm:.1f} x {lesion.perpendicular_mm:.1f} mm"


def verdict(analysis: Analysis) -> str:
    """Word what a frame shows."""
    classes = analysis.classes
    if classes is None:
        state = "" if analysis.state is FeedState.LIVE else f": {analysis.state.replace('_', ' ').upper()}"
        return f"not analysed{state}"
    how = "stable" if classes.stable else "uncertain" if classes.uncertain else "settling"
    return f"{classes.label} ({how}), malignancy {classes.malignancy * 100:.0f} %"


def _draw_strip(strip: Pixels, shown: Shown, analysis: Analysis) -> None:
    live = analysis.classes is not None
    _put(strip, verdict(analysis), (10, 24), 0.62, colour_of(analysis) if live else _WARN)
    about = f"{analysis.source}  frame {analysis.frame_id}  {shown.time_s:.2f} s"
    _put(strip, about, (10, 47), 0.45, _DIM)
    (width, _), _ = cv2.getTextSize(USE, _FONT, 0.45, 1)
    _put(strip, USE, (strip.shape[1] - width - 10, 47), 0.45, _TEXT)


def _put(
    picture: Pixels, words: str, at: tuple[int, int], scale: float, colour: tuple[int, int, int]
) -> None:
    # OpenCV's font knows nothing beyond ASCII.
    words = words.encode("ascii", "replace").decode()
    # Around it in black at the same weight: a heavier one is wider too.
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        cv2.putText(picture, words, (at[0] + dx, at[1] + dy), _FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(picture, words, at, _FONT, scale, colour, 1, cv2.LINE_AA)
