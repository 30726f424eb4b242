"""Pictures that carry their own number, so that a test knows which frame it got."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from streamer.frame import Pixels
from streamer.sources import Captured, Source, SourceInvalidFrame

BLOCK = 16
BITS = 10
WIDTH, HEIGHT = 320, 240


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    """Draw a picture with its number as a row of black and white blocks."""
    pixels = np.full((height, width), 100, np.uint8)
    for bit in range(BITS):
        pixels[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 235 if number >> bit & 1 else 16
    return pixels


def number_of(pixels: Pixels) -> int:
    """Read the number back."""
    middle = BLOCK // 2
    return sum(int(pixels[middle, bit * BLOCK + middle] > 128) << bit for bit in range(BITS))


def encode(
    path: Path,
    frames: int = 20,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int = 25,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write a clip of numbered pictures."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        for number in range(frames):
            gray = numbered(number, *size)
            frame = av.VideoFrame.from_ndarray(gray, format="gray").reformat(format=pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def drain(source: Source) -> Iterator[Captured | SourceInvalidFrame]:
    """Read to the end; refused frames come as the error that refused them."""
    while True:
        try:
            captured = source.read()
        except SourceInvalidFrame as error:
            yield error
            continue
        if captured is None:
            return
        yield captured


def numbers(source: Source) -> list[int]:
    """Read to the end and give the frames' numbers."""
    return [number_of(item.pixels) for item in drain(source) if isinstance(item, Captured)]
