"""Frames from a folder of pictures, in natural order."""

import re
import time
from pathlib import Path
from threading import Event

from streamer.frame import Clock
from streamer.sources.base import Captured, Source, SourceInvalidFrame, SourceOptions, SourceUnavailable
from streamer.sources.pictures import MAX_PICTURE_BYTES, decode_gray

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
DEFAULT_FPS = 5.0


def open_images(uri: str, options: SourceOptions) -> Source:
    """Open a folder of PNG, JPEG, BMP or TIFF pictures.

    :raises SourceUnavailable: if there is no such folder, or no picture in it.
    """
    folder = Path(uri.removeprefix("images:"))
    try:
        paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    except OSError as error:
        raise SourceUnavailable(f"cannot read the folder {folder}: {error.strerror}") from None
    if not paths:
        raise SourceUnavailable(f"no pictures in {folder}: expected {', '.join(sorted(SUFFIXES))}")
    return ImageFolder(sorted(paths, key=natural_order), options)


def natural_order(path: Path) -> tuple[tuple[str, int], ...]:
    """Sort key that puts `frame 9` before `frame 10`."""
    texts = re.split(r"([0-9]+)", path.name)
    numbers = [int(number) for number in texts[1::2]] + [0]
    return tuple((text.casefold(), number) for text, number in zip(texts[::2], numbers, strict=True))


class ImageFolder(Source):
    """Pictures in order, one by one."""

    policy = "every"

    def __init__(self, paths: list[Path], options: SourceOptions) -> None:
        self._paths = paths
        self._loop = options.loop
        self._period_s = 1 / (options.fps or DEFAULT_FPS)
        self._realtime = options.pace == "realtime"
        self._closed = Event()
        self._count = 0
        self._start_monotonic: int | None = None

    def read(self) -> Captured | None:
        """Wait until the next picture is due; see `Source.read`."""
        if self._closed.is_set() or (self._count >= len(self._paths) and not self._loop):
            return None
        path = self._paths[self._count % len(self._paths)]
        media_s = self._count * self._period_s
        self._count += 1
        try:
            if path.stat().st_size > MAX_PICTURE_BYTES:
                raise SourceInvalidFrame(f"larger than {MAX_PICTURE_BYTES >> 20} MB")
            pixels = decode_gray(path.read_bytes())
        except OSError as error:
            raise SourceInvalidFrame(f"{path} cannot be read: {error.strerror}") from None
        except SourceInvalidFrame as error:
            raise SourceInvalidFrame(f"{path}: {error}") from None
        now = time.monotonic_ns()
        if not self._realtime:
            return Captured(pixels, now, Clock.PTS, media_time_s=media_s)
        if self._start_monotonic is None:
            self._start_monotonic = now - int(media_s * 1e9)
        due = self._start_monotonic + int(media_s * 1e9)
        if self._closed.wait(max(0.0, (due - now) / 1e9)):
            return None
        return Captured(pixels, due, Clock.PTS, media_time_s=media_s)

    def close(self) -> None:
        """Make a waiting `read` return."""
        self._closed.set()
