"""What a reader of a folder's layout returns, before any picture is decoded."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from models.networks.registry import CLASSES
from train.data import DataError, Study

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_UNKNOWN = ("", "unknown", "?", "na", "n/a", "none")


class Skip(NamedTuple):
    """A file that is left out."""

    file: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Listing:
    """The studies of one data set as its files name them."""

    layout: str
    """Kind of the layout, in words."""
    name: str
    """Of the data set."""
    path: str
    studies: list[Study]
    """Their groups are still to be found: all 0."""
    skipped: list[Skip] = field(default_factory=list)
    unmasked: list[str] = field(default_factory=list)
    """Names of images whose mask is missing although the layout has one for each."""
    known_groups: dict[str, int] = field(default_factory=dict)
    """Groups that the data set itself states, by the name of the study."""
    unused: list[str] = field(default_factory=list)
    """Columns of its table that were not used."""
    compare: bool = True
    """Whether its pictures are to be searched for duplicates."""


def parse_class(text: str, where: str) -> str | None:
    """Read a class from a table's cell; an initial is enough, and an empty cell means that it is not known.

    :param where: names the cell in an error.
    :raises DataError: if it is no class.
    """
    word = text.strip().lower()
    if word in _UNKNOWN:
        return None
    for label in CLASSES:
        if word in (label, label[0]):
            return label
    raise DataError(f"{where}: {text!r} is no class; write {', '.join(CLASSES)}, or nothing if it is unknown")


def pictures_in(folder: Path) -> list[Path]:
    """List the picture files of a folder, sorted by name.

    :raises DataError: if it cannot be listed.
    """
    try:
        # Archives packed on a Mac hold a hidden ._NAME.png for every NAME.png.
        paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
        return sorted(path for path in paths if path.suffix.lower() in PICTURES)
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror})") from None


def closest(word: str, among: Iterable[str]) -> str | None:
    """Find what a word was probably meant to be."""
    return next(iter(difflib.get_close_matches(word.lower(), list(among), 1, 0.7)), None)
