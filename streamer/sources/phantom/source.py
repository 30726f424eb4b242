"""The phantom as a live source, paced like a scanner."""

import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, get_args
from urllib.parse import parse_qsl

from streamer.frame import Clock, Pixels
from streamer.sources.base import Captured, Source, SourceOptions, SourceUnavailable
from streamer.sources.phantom.code import stamp
from streamer.sources.phantom.feed import MIN_SIDE, Phantom, PhantomFrame
from streamer.sources.phantom.sweep import Content

_NS_PER_S = 1_000_000_000
_MAX_SIDE = 4096


class _Picture(NamedTuple):
    pixels: Pixels
    spacing_mm: tuple[float, float]


class PhantomSource(Source):
    """Plays a phantom in real time: frame n is due n / fps after the first one, to the nanosecond.

    Each frame is rendered before it is due. A reader or machine that cannot keep up skips frames, as one
    that looks at a live feed does: what it gets next shows the present.

    :param frames: ends after so many frame periods; 0: endless.
    :param prerender: render so many frames at once and play them forth and back; 0: render as it goes.
    :param start: index of the first frame.
    :param code: write each frame's index and the instant at which it was due into its pixels.
    :param now_ns: the clock, ns.
    :param sleep: waits for so many seconds or until the event is set.
    """

    def __init__(
        self,
        phantom: Phantom,
        *,
        frames: int = 0,
        prerender: int = 0,
        start: int = 0,
        code: bool = False,
        now_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self.phantom = phantom
        self._frames, self._start, self._code = frames, start, code
        self._now_ns, self._sleep = now_ns, sleep
        self._closed = threading.Event()
        # Pixels alone: the truth about a frame is three times as large, and can be had again.
        self._rendered: list[_Picture] = []
        for n in range(prerender):
            frame = phantom.frame(start + n)
            self._rendered.append(_Picture(frame.pixels, frame.spacing_mm))
        self._next = 0
        self._t0_ns: int | None = None

    def read(self) -> Captured | None:
        """Wait for the next frame that is due.

        :return: None after the last frame or after `close`.
        """
        fps = self.phantom.fps
        number = self._next
        if self._t0_ns is not None:
            number = max(number, math.floor((self._now_ns() - self._t0_ns) * fps / _NS_PER_S))
        if self._closed.is_set() or (self._frames and number >= self._frames):
            return None
        at = self._index(number)
        frame = self._rendered[at - self._start] if self._rendered else self.phantom.frame(at)
        if self._t0_ns is None:
            self._t0_ns = self._now_ns()
        due_ns = self._t0_ns + round(number * _NS_PER_S / fps)
        while (early_ns := due_ns - self._now_ns()) > 0 and not self._closed.is_set():
            self._sleep(self._closed, early_ns / _NS_PER_S)
        if self._closed.is_set():
            return None
        self._next = number + 1
        index = self._start + number
        return Captured(
            pixels=stamp(frame.pixels, index, due_ns) if self._code else frame.pixels,
            monotonic=due_ns,
            clock=Clock.PTS,
            spacing_mm=frame.spacing_mm,
            media_time_s=index / fps,
            upstream_id=index,
        )

    def shown(self, number: int) -> PhantomFrame:
        """What the feed shows as its n-th frame, with the truth about it.

        :param number: `upstream_id` of the captured frame, less the start.
        """
        return self.phantom.frame(self._index(number))

    def _index(self, number: int) -> int:
        """Index into the phantom of the n-th frame: forth and back over what was rendered before."""
        turn = 2 * len(self._rendered) - 2
        place = number % turn if turn > 0 else 0
        ahead = min(place, turn - place) if self._rendered else number
        return self._start + ahead

    def close(self) -> None:
        """Stop; wakes a waiting `read`."""
        self._closed.set()


class _Query(NamedTuple):
    """What a URI may say, with the defaults."""

    seed: int = 0
    lesion: Content = "mixed"
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    frames: int = 0
    prerender: int = 0
    start: int = 0
    lift: bool = True
    cut: bool = True
    code: bool = False


def open_phantom(uri: str, options: SourceOptions) -> PhantomSource:
    """Open a synthetic feed, such as `phantom:?seed=3&lesion=malignant&fps=30&width=800&height=600`.

    :param uri: keys: seed, lesion, fps, width, height, frames, prerender, start, lift, cut, code.
    :param options: `fps` and `size` hold where the URI gives none.
    :raises SourceUnavailable: if a key is unknown or its value is not allowed.
    """
    query = _parse(uri)
    width, height = options.size or (640, 480)
    if options.size is not None:
        for name, value in (("width", width), ("height", height)):
            _whole(uri, f"size ({name})", str(value), low=MIN_SIDE, high=_MAX_SIDE)
    if options.fps is not None:
        _rate(uri, "fps", str(options.fps))
    phantom = Phantom(
        seed=query.seed,
        width=query.width or width,
        height=query.height or height,
        fps=query.fps or options.fps or 30.0,
        lesion=query.lesion,
        lift=query.lift,
        cut=query.cut,
    )
    return PhantomSource(
        phantom, frames=query.frames, prerender=query.prerender, start=query.start, code=query.code
    )


def _parse(uri: str) -> _Query:
    _, _, rest = uri.partition(":")
    path, _, text = rest.partition("?")
    if path.strip("/"):
        raise SourceUnavailable(f"{uri!r}: a phantom has no path {path!r}; options follow `phantom:?`")
    readers: dict[str, Callable[[str, str, str], object]] = {
        "seed": _whole,
        "lesion": _content,
        "fps": _rate,
        "width": _side,
        "height": _side,
        "frames": _whole,
        "prerender": _prerender,
        "start": _whole,
        "lift": _switch,
        "cut": _switch,
        "code": _switch,
    }
    values: dict[str, object] = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        if key not in readers:
            raise SourceUnavailable(f"{uri!r}: unknown key {key!r}; allowed are {', '.join(readers)}")
        values[key] = readers[key](uri, key, value)
    return _Query(**values)  # type: ignore[arg-type]


def _refuse(uri: str, key: str, value: str, allowed: str) -> SourceUnavailable:
    return SourceUnavailable(f"{uri!r}: {key}={value!r} is not allowed; give {allowed}")


def _whole(uri: str, key: str, value: str, *, low: int = 0, high: int = 2**62) -> int:
    bounds = f"a whole number from {low} to {high}" if high < 2**62 else f"a whole number, {low} or more"
    try:
        number = int(value)
    except ValueError:
        raise _refuse(uri, key, value, bounds) from None
    if not low <= number <= high:
        raise _refuse(uri, key, value, bounds)
    return number


def _side(uri: str, key: str, value: str) -> int:
    return _whole(uri, key, value, low=MIN_SIDE, high=_MAX_SIDE)


def _prerender(uri: str, key: str, value: str) -> int:
    # They are kept in memory with their masks: 10,000 of 640 x 480 take 9 GB.
    return _whole(uri, key, value, high=10_000)


def _rate(uri: str, key: str, value: str) -> float:
    # A flood of four times what a fast machine can analyse must be possible.
    allowed = "frames per second, above 0 and up to 10000"
    try:
        rate = float(value)
    except ValueError:
        raise _refuse(uri, key, value, allowed) from None
    if not 0 < rate <= 10_000:
        raise _refuse(uri, key, value, allowed)
    return rate


def _content(uri: str, key: str, value: str) -> Content:
    if value not in get_args(Content):
        raise _refuse(uri, key, value, ", ".join(get_args(Content)))
    return value  # type: ignore[return-value]


def _switch(uri: str, key: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise _refuse(uri, key, value, "true or false")
    return value == "true"
