"""Whether a network's probabilities mean what they say, as it answers and with a temperature."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.daemon import BenchError
from benchmarks.networks.runs import Trained
from models.checkpoint import read_checkpoint
from models.networks.registry import ModelError
from train import metrics
from train.data import DataError, read_images
from train.evaluation.answers import ask_network
from train.evaluation.calibration import temperature
from train.learning.batch import UNKNOWN
from train.learning.draw import for_network
from train.report.part import number
from train.report.run import Fold
from train.run.folder import has_class
from train.sets import DataSet, read
from train.splits import read_folds

Floats = NDArray[np.float64]


class InnerParts:
    """The inner validation parts of runs, read again from the data that they were trained on."""

    def __init__(self, data: Sequence[str], cache: Path) -> None:
        """Name the data.

        :param data: as of `sonostream train`.
        :param cache: where rendered pictures are kept.
        """
        self._data, self._cache = tuple(data), cache
        self._read: dict[str, DataSet] = {}

    def temperature(self, run: Trained, fold: Fold) -> float:
        """Fit a fold's temperature on its inner validation part, which it was not trained on.

        :raises BenchError: if the data is not what the run was trained on, or a file cannot be read.
        """
        heldout = run.data.get("heldout", "leave_out")
        try:
            if heldout not in self._read:
                self._read[heldout] = read(self._data, heldout=heldout, cache=self._cache)
            network = read_checkpoint(fold.folder / "best.pt").network
            studies = [one for one in self._read[heldout].studies if has_class(one, network)]
            split = run.data.get("split", "grouped")
            parts = read_folds(run.folder / "folds.csv", studies, split=split).parts(fold.number)
            images = for_network(read_images(parts.validation, network.size[0]), len(network.classes))
        except (DataError, ModelError) as error:
            raise BenchError(f"{run.label} cannot be calibrated on --data: {error}") from None
        known = images.labels != UNKNOWN
        chances = ask_network(network, images).classes[known]
        return round(temperature(np.log(np.maximum(chances, 1e-12)), images.labels[known]), 4)


def calibration(run: Trained, inner: InnerParts | None) -> dict[str, Any] | None:
    """Compare expected calibration error and Brier score before and after a temperature, on the test parts.

    :param inner: fits the temperature of runs whose recipe does not; None: they have no figures after.
    :return: None for a network that does not classify.
    """
    if not run.classifies:
        return None
    scales = [fold.answers.temperature for fold in run.folds]
    fitted_by = "the run"
    if all(scale == 1 for scale in scales):
        fitted_by = "this comparison, on the inner validation part" if inner else "nothing"
        scales = [inner.temperature(run, fold) for fold in run.folds] if inner else []
    before = [fold.answers.uncalibrated() for fold in run.folds]
    labels = np.concatenate([fold.images.labels for fold in run.folds])
    # Groups of different folds are different images, whatever their numbers.
    groups = np.concatenate(
        [fold.images.groups * len(run.folds) + place for place, fold in enumerate(run.folds)]
    )
    after = [_softened(chances, scale) for chances, scale in zip(before, scales, strict=False)]
    return {
        "temperatures": scales,
        "fitted_by": fitted_by,
        "before": _figures(np.concatenate(before), labels, groups),
        "after": _figures(np.concatenate(after), labels, groups) if after else None,
    }


def _softened(chances: Floats, scale: float) -> Floats:
    powers = np.maximum(chances, 1e-12) ** (1 / scale)
    softened: Floats = powers / powers.sum(axis=1, keepdims=True)
    return softened


def _figures(chances: Floats, labels: NDArray[np.int64], groups: NDArray[np.int64]) -> dict[str, Any]:
    named = np.flatnonzero((labels >= 0) & (labels < chances.shape[1]))

    def compute(rows: NDArray[np.int64]) -> Floats:
        picked = named[rows]
        return np.array(
            [
                metrics.calibration_error(chances[picked], labels[picked]),
                metrics.brier(chances[picked], labels[picked]),
            ]
        )

    found = metrics.bootstrap_all(compute, groups[named])
    return {
        name: {"value": number(one.value), "interval_95": [number(one.low), number(one.high)]}
        for name, one in zip(("calibration_error", "brier"), found, strict=True)
    }
