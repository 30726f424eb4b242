"""Curves as SVG, drawn to be read on paper: one accent, gray for what it is compared with."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from train.metrics import Bin, Roc

INK, ACCENT, PALE, WARM = "#1f2933", "#1b5e8c", "#9aa5b1", "#b4541a"
_FOLDS = (ACCENT, WARM, "#3f7d58", "#7a4a8c", "#8a6d1b")
_SETS = {"real": "validation", "test": "test part"}
_STYLE: Any = {
    "axes.edgecolor": PALE,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.color": "#e4e7eb",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "sonostream",
    "xtick.color": INK,
    "ytick.color": INK,
}


def curves(folds: Sequence[Sequence[dict[str, Any]]]) -> str:
    """Draw losses and validation figures over the epochs of every fold.

    :param folds: the lines of each fold's epochs.jsonl.
    :return: the picture as a data URI; so do all below.
    """
    figures = _validated(folds)
    with _style():
        figure = Figure(figsize=(3.1 * (1 + len(figures)), 2.5), layout="constrained")
        axes = figure.subplots(1, 1 + len(figures), squeeze=False)[0]
        for number, lines in enumerate(folds):
            colour = _FOLDS[number % len(_FOLDS)]
            epochs = [line["epoch"] for line in lines]
            losses = [line["losses"].get("total", float("nan")) for line in lines]
            axes[0].plot(epochs, losses, color=colour, linewidth=1.2, label=f"fold {number + 1}")
            for axis, (set_name, name) in zip(axes[1:], figures, strict=True):
                values = [line["validation"].get(set_name, {}).get(name, float("nan")) for line in lines]
                axis.plot(epochs, values, color=colour, linewidth=1.2)
        axes[0].set(xlabel="epoch", title="training loss")
        for axis, (set_name, name) in zip(axes[1:], figures, strict=True):
            title = {"dice": "Dice", "auc": "AUC"}.get(name, name)
            axis.set(xlabel="epoch", title=f"{title}, {_SETS.get(set_name, set_name)}", ylim=(0, 1.02))
        for axis in axes:
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if len(folds) > 1:
            axes[0].legend(fontsize=7)
        return _uri(figure)


def roc(curve: Roc, auc: str, folds: Sequence[Roc] = ()) -> str:
    """Draw a ROC curve; those of folds pale behind it."""
    with _style():
        figure, axis = _square()
        axis.plot([0, 1], [0, 1], color=PALE, linewidth=0.8, linestyle=":")
        for one in folds:
            axis.plot(one.false_positive, one.true_positive, color=PALE, linewidth=0.8)
        axis.plot(curve.false_positive, curve.true_positive, color=ACCENT, linewidth=1.8, label=f"AUC {auc}")
        axis.set(xlabel="1 - specificity", ylabel="sensitivity")
        axis.legend(loc="lower right")
        return _uri(figure)


def reliability(calibrated: Sequence[Bin], before: Sequence[Bin]) -> str:
    """Draw how often the named class is right against how sure the model is; dots grow with their images."""
    with _style():
        figure, axis = _square()
        axis.plot([0, 1], [0, 1], color=PALE, linewidth=0.8, linestyle=":")
        if before:
            _dots(axis, before, PALE, "before temperature")
        _dots(axis, calibrated, ACCENT, "after temperature" if before else "as it answers")
        axis.set(xlabel="probability of the class it names", ylabel="share that is right")
        axis.legend(loc="upper left")
        return _uri(figure)


def _dots(axis: Axes, bins: Sequence[Bin], colour: str, label: str) -> None:
    total = sum(one.images for one in bins)
    x, y = [one.confidence for one in bins], [one.accuracy for one in bins]
    axis.plot(x, y, color=colour, linewidth=1.2, label=label)
    axis.scatter(
        x, y, s=[12 + 240 * one.images / total for one in bins], color=colour, alpha=0.75, linewidths=0
    )


def _validated(folds: Sequence[Sequence[dict[str, Any]]]) -> list[tuple[str, str]]:
    """Which figures of which validation sets there are, the first three."""
    found = {
        (set_name, name): None
        for lines in folds
        for line in lines
        for set_name, values in line["validation"].items()
        for name in ("dice", "auc", "accuracy")
        if name in values
    }
    return list(found)[:3]


def _square() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(3.4, 3.2), layout="constrained")
    axis = figure.subplots()
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return figure, axis


def _style() -> Any:
    return mpl.rc_context(_STYLE)


def _uri(figure: Figure) -> str:
    with io.BytesIO() as buffer:
        # No date: the same figures give the same bytes.
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
