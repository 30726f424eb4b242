"""The part of a scanner's screen that shows ultrasound."""

from typing import Literal

import cv2
import numpy as np

from streamer.analysis import Region
from streamer.frame import Pixels

RegionSetting = Literal["full", "auto"] | tuple[int, int, int, int]
"""The whole frame, found from the picture, or (x, y, width, height)."""

MIN_SIDE = 32
"""A smaller region is a mistake, not an ultrasound picture."""
_BLACK_BELOW = 12


class RegionError(ValueError):
    """The region does not fit the frame, or none can be found."""


def locate(setting: RegionSetting, pixels: Pixels) -> Region:
    """Resolve a region for frames of this size.

    :raises RegionError: if it reaches outside the frame, or `auto` finds no picture.
    """
    height, width = pixels.shape[:2]
    if setting == "full":
        return Region(0, 0, width, height)
    if setting == "auto":
        return find_region(pixels)
    x, y, w, h = setting
    if x + w > width or y + h > height:
        raise RegionError(f"region {x},{y},{w},{h} reaches outside the frame of {width} x {height}")
    return Region(x, y, w, h)


def find_region(pixels: Pixels) -> Region:
    """Find the ultrasound picture on a scanner's screen: the largest coherent bright area.

    Speckle makes tissue one textured area even where it is dark in places; menus and texts are small or thin
    beside it. Found once per feed and frame size, from a frame that shows something.

    :raises RegionError: if no area of at least a tenth of the screen stands out.
    """
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels
    height, width = gray.shape
    reach = max(3, min(height, width) // 40) | 1
    bright = (gray > _BLACK_BELOW).astype(np.uint8)
    # Opening first removes glyphs and lines, closing then joins the speckle.
    tissue = cv2.morphologyEx(
        cv2.boxFilter(bright * 255, -1, (reach, reach)), cv2.MORPH_OPEN, np.ones((reach, reach))
    )
    joined = (tissue > 160).astype(np.uint8)
    closed = cv2.morphologyEx(joined, cv2.MORPH_CLOSE, np.ones((3 * reach, 3 * reach), np.uint8))
    _, _, statistics, _ = cv2.connectedComponentsWithStats(closed)
    if len(statistics) < 2:
        raise RegionError("found no ultrasound picture on the screen: set `region` to x,y,width,height")
    largest = statistics[1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))]
    if largest[cv2.CC_STAT_AREA] < 0.1 * height * width:
        raise RegionError("found no ultrasound picture on the screen: set `region` to x,y,width,height")
    x, y, w, h = (int(value) for value in largest[:4])
    return Region(x, y, w, h)


def inside(region: Region, pixels: Pixels) -> Pixels:
    """Return the region's pixels as a view."""
    return pixels[region.y : region.y + region.height, region.x : region.x + region.width]
