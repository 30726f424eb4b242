"""A run's figures beside the paper's, and how far the two were made alike."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from train.report.papers import Published, note, paper_of, protocol, published
from train.report.words import words

_POINTS = ("images", "split", "checkpoint", "positive class", "spread", "distances")
_SHORT = (
    ("dice", ("dice",)),
    ("jaccard", ("jaccard",)),
    ("auc", ("auc", "auc_macro")),
    ("accuracy", ("accuracy_lesions", "accuracy")),
)


class Against(NamedTuple):
    """One figure here and in the paper."""

    says: str
    ours: str
    paper: str


class Comparison(NamedTuple):
    """What a report says of the papers."""

    cite: str
    source: str
    note: str
    rows: list[Against]
    """Of the network's own paper; empty where it has none on this data."""
    protocol: list[Against]
    """Point by point: how the figures were made."""
    others: list[tuple[str, list[str]]]
    """Every published network on this data: Dice, Jaccard, AUC, accuracy."""


def compare(
    network: str, sources: Iterable[str], ours: Mapping[str, str], made: Mapping[str, str], positive: str
) -> Comparison | None:
    """Set a run beside what the papers print on the same data.

    :param network: its name.
    :param sources: names of the data sets it was tested on.
    :param ours: its figures, written out, by name.
    :param made: how they were made, by the points of a protocol.
    :return: None where no paper used this data, or several sets were mixed.
    """
    names = set(sources)
    data = next((each for each in ("BUSI", "UDIAT") if {name.upper() for name in names} == {each}), None)
    rows = published(data) if data else []
    if not rows:
        return None
    own = next((row for row in rows if row.network == network), None)
    paper = own.paper if own else paper_of(network)
    against = []
    if own:
        against = [
            Against(words(name, positive).says, ours.get(name, "-"), _printed(name, *value))
            for name, value in own.figures.items()
        ]
    return Comparison(
        cite=own.cite if own else "",
        source=f"{own.source}, {own.data}" if own else "",
        note=note(paper) if paper else "",
        rows=against,
        protocol=[Against(point, made.get(point, "not stated"), protocol(paper)[point]) for point in _POINTS]
        if paper and own
        else [],
        others=[(_name(row), [_short(row, keys) for _, keys in _SHORT]) for row in rows]
        + [("this model", [next((ours[key] for key in keys if key in ours), "-") for _, keys in _SHORT])],
    )


def _name(row: Published) -> str:
    same = "" if row.network == row.paper else f", in {row.paper}'s paper"
    return f"{row.network}{same} ({row.source})"


def _short(row: Published, keys: tuple[str, ...]) -> str:
    return next((_printed(key, *row.figures[key]) for key in keys if key in row.figures), "-")


def _printed(name: str, value: float, spread: float | None) -> str:
    digits = 3 if words(name).percent else 2
    return f"{value:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")
