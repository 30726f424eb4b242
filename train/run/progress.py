"""Shows a run while it goes on: a live bar on a terminal, plain lines elsewhere, TensorBoard where asked."""

import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from train.run.watch import Report
from train.splits import Parts

# Without a terminal nobody watches a bar: a line now and then says that an epoch is still going on.
_LINE_S = 60.0
_USES = ("train on", "choose by", "test")


class Display:
    """What a run says of itself, of one fold after the other."""

    def __init__(self, console: Console, *, folds: int, epochs: int | None) -> None:
        """Prepare.

        :param folds: that the run trains.
        :param epochs: of a fold, over all stages; None where the clock ends it.
        """
        self.console = console
        self._folds, self._epochs = folds, epochs
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[says]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._bar.add_task("", total=1.0, says="")
        self._fold = 1
        self._epoch = 1
        self._board: Any = None
        self._entered = self._printed = time.monotonic()
        self._first_progress: float | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._close_board()

    def say(self, line: str) -> None:
        """Print a line."""
        self._print(line)

    def start_fold(self, number: int, parts: Parts, run: Path | None) -> None:
        """Begin to show a fold.

        :param run: its `fold-N/tensorboard` gets TensorBoard's logs; None writes none.
        """
        self._fold, self._epoch = number, 1
        self._first_progress = None
        self._close_board()
        counts = ", ".join(f"{len(part)} to {use}" for part, use in zip(parts, _USES, strict=True))
        self._print(f"{self._where()}: {counts}")
        if run is not None:
            from torch.utils.tensorboard import SummaryWriter

            folder = run / f"fold-{number}" / "tensorboard"
            self._board = SummaryWriter(str(folder))

    def end_fold(self, figures: dict[str, float]) -> None:
        """Print what the fold's test part says."""
        self._print(f"{self._where()}, test part: {', '.join(f'{k} {v:.3f}' for k, v in figures.items())}")

    def on_step(self, progress: float, losses: dict[str, float]) -> None:
        """Show how far a stage is."""
        now = time.monotonic()
        if self._first_progress is None or progress < self._first_progress:
            self._first_progress, self._entered, self._printed = progress, now, now
        done = progress - self._first_progress
        left = f"{_duration((now - self._entered) / done * (1 - progress))} left" if done > 0 else ""
        loss = f"loss {losses['total']:.3f}" if "total" in losses else ""
        where = f"{self._where()}, epoch {self._epoch}{f'/{self._epochs}' if self._epochs else ''}"
        self._bar.update(self._task, completed=progress, description=where, says=f"{loss}  {left}")
        if not self.console.is_terminal and now - self._printed > _LINE_S:
            self._printed = now
            self._print(f"{where}  {progress:.0%} of the stage  {loss}  {left}")

    def on_epoch(self, report: Report) -> None:
        """Print an epoch's figures in one line."""
        epochs = f"/{self._epochs}" if self._epochs else ""
        parts = [f"{self._where()}, {report.stage} epoch {report.epoch}{epochs}"]
        total = report.losses.get("total")
        others = " ".join(f"{name} {value:.3f}" for name, value in report.losses.items() if name != "total")
        parts.append(f"loss {total:.3f} ({others})" if others else f"loss {total:.3f}")
        for name, one in report.validation.items():
            shown = [f"{key} {one[key]:.3f}" for key in ("dice", "accuracy", "auc") if key in one]
            parts.append(f"{name}: {' '.join(shown)}" if shown else f"{name}: not scored")
        if report.score is not None:
            parts.append(f"score {report.score:.3f}{' (best)' if report.best else ''}")
        parts.append(f"{report.images_per_s:.1f} images/s")
        left = report.elapsed_s / report.progress * (1 - report.progress) if report.progress else 0.0
        parts.append(f"{_duration(left)} left")
        self._print(" | ".join(parts))
        self._epoch, self._printed = report.epoch + 1, time.monotonic()
        if self._board is not None:
            self._write_board(report)

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _where(self) -> str:
        return f"fold {self._fold}" if self._folds > 1 else "training"

    def _write_board(self, report: Report) -> None:
        for name, value in report.losses.items():
            self._board.add_scalar(f"loss/{name}", value, report.epoch)
        for part, values in report.validation.items():
            for name, value in values.items():
                self._board.add_scalar(f"{part}/{name}", value, report.epoch)
        self._board.add_scalar("run/lr", report.lr, report.epoch)
        self._board.add_scalar("run/images_per_s", report.images_per_s, report.epoch)
        self._board.flush()

    def _close_board(self) -> None:
        if self._board is not None:
            self._board.close()
            self._board = None


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
