"""What a run tells those who follow it, and how it ends before its time."""

from collections.abc import Callable
from typing import NamedTuple


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped."""


class RunError(ValueError):
    """A run cannot be started as it was asked for; the message says what to change."""


class Interrupted(Exception):
    """The run was asked to stop and has been saved."""


class Report(NamedTuple):
    """What is known after an epoch; a line of `epochs.jsonl`."""

    stage: str
    epoch: int
    """Over all stages, from 1."""
    step: int
    """Of the stage."""
    progress: float
    """Share of the stage that is done."""
    elapsed_s: float
    """Of the stage."""
    lr: float
    losses: dict[str, float]
    """Means over the epoch."""
    validation: dict[str, dict[str, float]]
    """By validation set."""
    score: float | None
    """None where no figure is weighed."""
    best: bool
    """The best epoch so far."""
    images_per_s: float
    """While training, without validation."""


def _ignore_step(_progress: float, _losses: dict[str, float]) -> None:
    pass


def _ignore_epoch(_report: Report) -> None:
    pass


def _go_on() -> bool:
    return False


class Watch(NamedTuple):
    """Who follows a run."""

    on_step: Callable[[float, dict[str, float]], None] = _ignore_step
    """Called after every step with the stage's progress and the last losses known."""
    on_epoch: Callable[[Report], None] = _ignore_epoch
    stopping: Callable[[], bool] = _go_on
    """Asked after every step."""
