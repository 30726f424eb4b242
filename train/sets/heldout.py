"""BUSI's held-out part: the images that no training and no selection may see.

They are listed in `train/busi_heldout.csv` by name and by their pixels, so that they are known again in
whatever layout and beside whatever other images they come.
"""

import csv
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from train.data import Study

LIST = "train/busi_heldout.csv"


@cache
def _rows() -> tuple[dict[str, str], ...]:
    text = (files("train") / "busi_heldout.csv").read_text()
    return tuple(csv.DictReader(text.splitlines()))


def heldout_names() -> frozenset[str]:
    """Name the held-out images as BUSI's own layout does."""
    return frozenset(row["image"] for row in _rows())


def is_heldout(studies: Sequence[Study], digests: Sequence[str]) -> list[bool]:
    """Tell which studies are held-out images of BUSI.

    A copy of BUSI whose pictures were converted has other pixels; there the names count, if the set they are
    in has all of the listed ones.

    :param digests: of every study's picture, of `train.sets.inspection.digest_of`.
    """
    pixels, names = {row["pixels"] for row in _rows()}, heldout_names()
    copies = {
        source
        for source in {study.source for study in studies}
        if names <= {study.name for study in studies if study.source == source}
    }
    return [
        digest in pixels or (study.source in copies and study.name in names)
        for study, digest in zip(studies, digests, strict=True)
    ]
