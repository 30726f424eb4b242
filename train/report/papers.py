"""What the papers print (papers.toml), chosen for a network and a data set."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from train.report.words import words


class Published(NamedTuple):
    """One row of a paper."""

    paper: str
    """Its network's name here, which is also its key in papers.toml."""
    cite: str
    network: str
    data: str
    source: str
    """The table."""
    figures: dict[str, tuple[float, float | None]]
    """By our names: value and spread, on our scale (shares from 0 to 1, distances in pixels)."""


@cache
def _papers() -> dict[str, Any]:
    return tomllib.loads((files("train.report") / "papers.toml").read_text(encoding="utf-8"))


def published(data: str | None = None) -> list[Published]:
    """List the papers' rows.

    :param data: only of this data set.
    """
    rows = []
    for name, paper in _papers().items():
        for row in paper["rows"]:
            if data is None or row["data"] == data:
                figures = {key: _value(key, printed) for key, printed in row["figures"].items()}
                rows.append(
                    Published(name, paper["cite"], row["network"], row["data"], row["source"], figures)
                )
    return rows


def paper_of(network: str) -> str | None:
    """Name the paper that a network of ours is from; None where it is from none of the five."""
    return next((name for name, paper in _papers().items() if network in paper["networks"]), None)


def protocol(paper: str) -> dict[str, str]:
    """Say how a paper's figures were made, point by point."""
    return dict(_papers()[paper]["protocol"])


def note(paper: str) -> str:
    """Say what must be known of where a paper's figures come from; empty where nothing must."""
    return str(_papers()[paper].get("note", ""))


def _value(name: str, printed: list[float]) -> tuple[float, float | None]:
    scale = 100 if words(name).percent else 1
    return printed[0] / scale, printed[1] / scale if len(printed) > 1 else None
