"""Run a recording through a model again, and say what that changed."""

import math
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from models.artifact import load_artifact
from models.runtimes import Session, load
from streamer.analysis import Analysis, Event, Model
from streamer.analyzer import Analyzer
from streamer.config import FeedConfig, SmoothingConfig, SourceConfig
from streamer.daemon import cache_directory, describe
from streamer.feed import EventKind, Feed
from streamer.frame import Pixels
from streamer.lane import Lane
from streamer.mailbox import Mailbox
from streamer.metrics import Metrics
from streamer.recording import Overview, Recorded, read_recording
from streamer.sinks import Result
from streamer.smoothing import SmoothingSettings

LESION_ABOVE = 127
"""A mask's cell is lesion above this, of 255."""


class ReplayError(Exception):
    """A recording cannot be replayed; says why."""


class Answer(NamedTuple):
    """What was said about one frame."""

    analysis: Analysis
    mask: Pixels | None
    """H x W, 0 to 255."""


class Difference(NamedTuple):
    """What a second run answered differently for the frames of one source."""

    source: str
    frames: int
    """Frames that both runs saw."""
    compared: int
    """Of these, the frames that both analysed."""
    identical: int
    """Of these, with the same classes, lesions and mask to the last bit."""
    label_agreement: float
    """Part of the compared frames with the same label shown; NaN without any, like what follows."""
    raw_label_agreement: float
    """The same for the most probable class of the single frame."""
    dice: float
    """Mean Dice overlap of the masks; 1 where both are empty."""
    malignancy_difference: float
    """Mean of second minus first."""
    malignancy_distance: float
    """Mean of its absolute value."""
    malignancy_largest: float
    """Largest absolute value."""


class Rerun:
    """A model, loaded to run recordings through."""

    def __init__(self, artifact: str, *, runtime: str = "auto") -> None:
        """Load the model.

        :raises ArtifactError: if it is not one.
        :raises EngineError: if it cannot be run here.
        """
        loaded = load_artifact(artifact)
        self._session: Session = load(loaded, runtime=runtime, max_batch=1, cache_dir=cache_directory())
        self._session.warm_up()
        self.model: Model = describe(loaded, self._session)

    def answers(self, path: Path, source: str, smoothing: SmoothingSettings) -> Iterator[Result]:
        """Analyse one source's frames in order, exactly as a daemon would, as fast as they come.

        :raises ReplayError: if the recording breaks off or holds no pictures.
        """
        bell, results = threading.Condition(), Mailbox[Result](capacity=4)
        lost = threading.Event()

        def note(_feed: Feed, kind: EventKind, _detail: str) -> None:
            if kind == "lost":
                lost.set()

        feed = Feed(
            SourceConfig(uri=f"mcap:{path}?source={source}", name=source, pace="fast"),
            FeedConfig(reconnect_first_s=60),
            bell=bell,
            tell=note,
        )
        lane = Lane(feed, self._session.card, self.model, smoothing, publisher="replay")
        metrics = Metrics()
        metrics.add_source(source)
        analyzer = Analyzer(self._session, [lane], [_Outlet(results)], metrics, bell=bell)
        failure: list[Exception] = []

        def work() -> None:
            try:
                analyzer.run()
            except Exception as error:
                failure.append(error)

        worker = threading.Thread(target=work, name="replay", daemon=True)
        feed.start()
        worker.start()
        try:
            while True:
                # Asked before the mailbox: what was said before the end is in it by then.
                over = not worker.is_alive() or (
                    (feed.ended.is_set() or lost.is_set() or feed.failure is not None)
                    and not feed.ledger.accounts.in_flight
                )
                result = results.take(0.02)
                if result is not None:
                    yield result
                elif over:
                    break
        finally:
            results.close()
            feed.stop()
            analyzer.stop()
            worker.join(5)
        if failure:
            raise ReplayError(str(failure[0]))
        if feed.failure is not None:
            raise ReplayError(str(feed.failure))
        if lost.is_set():
            raise ReplayError(f"{path} breaks off or holds no pictures of {source}")

    def close(self) -> None:
        """Free the engine."""
        self._session.close()


class _Outlet:
    def __init__(self, mailbox: Mailbox[Result]) -> None:
        self._mailbox = mailbox

    def offer(self, result: Result, *, wait: bool = False) -> None:
        del wait
        self._mailbox.put_waiting(result)


def recorded_smoothing(overview: Overview) -> SmoothingSettings:
    """Return the smoothing a recording was made with; today's defaults where it does not tell."""
    try:
        told = tomllib.loads(overview.config).get("smoothing", {})
    except tomllib.TOMLDecodeError:
        told = {}
    known = {key: value for key, value in told.items() if key in SmoothingConfig.model_fields}
    return SmoothingSettings(**SmoothingConfig.model_validate(known).model_dump())


def recorded_frames(path: Path, source: str, *, with_picture: bool = False) -> Iterator[Recorded]:
    """Yield one source's frames of a recording."""
    for item in read_recording(path):
        if isinstance(item, Event) or item.analysis.source != source:
            continue
        if not with_picture or item.picture is not None:
            yield item


def answer_of(item: Recorded) -> Answer:
    """Unpack a recorded answer."""
    mask = None
    if item.mask is not None:
        mask = cv2.imdecode(np.frombuffer(item.mask, np.uint8), cv2.IMREAD_GRAYSCALE)
    return Answer(item.analysis, None if mask is None else np.asarray(mask, np.uint8))


def answer_from(result: Result) -> Answer:
    """Unpack a new answer."""
    layout = result.analysis.mask
    if layout is None:
        return Answer(result.analysis, None)
    return Answer(result.analysis, np.frombuffer(result.mask, np.uint8).reshape(layout.height, layout.width))


class Comparison:
    """Gathers what two runs said, frame by frame."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._frames = self._identical = 0
        self._labels: list[bool] = []
        self._raw_labels: list[bool] = []
        self._dice: list[float] = []
        self._malignancy: list[float] = []

    def add(self, first: Answer, second: Answer) -> None:
        """Take in one frame."""
        self._frames += 1
        before, after = first.analysis.classes, second.analysis.classes
        if before is None or after is None or first.mask is None or second.mask is None:
            return
        self._labels.append(before.label == after.label)
        self._raw_labels.append(_top(before.names, before.raw) == _top(after.names, after.raw))
        self._malignancy.append(after.malignancy - before.malignancy)
        self._dice.append(dice(first.mask, second.mask))
        self._identical += (
            before == after
            and first.analysis.lesions == second.analysis.lesions
            and np.array_equal(first.mask, second.mask)
        )

    def difference(self) -> Difference:
        """Sum up."""
        distances = [abs(each) for each in self._malignancy]
        return Difference(
            self._source,
            self._frames,
            len(self._labels),
            self._identical,
            _mean(self._labels),
            _mean(self._raw_labels),
            _mean(self._dice),
            _mean(self._malignancy),
            _mean(distances),
            max(distances, default=math.nan),
        )


def dice(first: Pixels, second: Pixels) -> float:
    """Overlap of two masks, 0 to 1; the second is brought to the first one's size."""
    if first.shape != second.shape:
        second = np.asarray(cv2.resize(second, first.shape[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
    a, b = first > LESION_ABOVE, second > LESION_ABOVE
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def compare(
    rerun: Rerun,
    path: Path,
    source: str,
    smoothing: SmoothingSettings,
    *,
    against: Path | None = None,
    keep: Callable[[Recorded, Answer], None] = lambda *_: None,
) -> Difference:
    """Run one source of a recording again and compare, frame by frame.

    :param against: a recording with other results for the same frames; None: the recording's own.
    :param keep: called with every frame as it was recorded and the new answer to it.
    :raises ReplayError: if the recording breaks off or holds no pictures.
    :raises RecordingError: if one of the recordings is damaged.
    """
    comparison = Comparison(source)
    frames = enumerate(recorded_frames(path, source, with_picture=True))
    others = None if against is None else recorded_frames(against, source)
    for result in rerun.answers(path, source, smoothing):
        # A picture that is damaged has a number but no answer.
        frame = next(item for number, item in frames if number == result.analysis.frame_id)
        answer = answer_from(result)
        keep(frame, answer)
        before = frame if others is None else _at(others, frame.analysis.captured_monotonic)
        if before is None:
            raise ReplayError(f"{against} has no result for a frame of {source}: is it of another recording?")
        comparison.add(answer_of(before), answer)
    return comparison.difference()


def _at(frames: Iterator[Recorded], captured_monotonic: int) -> Recorded | None:
    return next((each for each in frames if each.analysis.captured_monotonic == captured_monotonic), None)


def _top(names: list[str], probabilities: list[float]) -> str:
    return names[probabilities.index(max(probabilities))]


def _mean(values: list[float] | list[bool]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
