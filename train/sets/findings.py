"""What is worth knowing about data sets, as a report shows it and a file keeps it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

import numpy as np

from train.data import Study
from train.sets.inspection import Look
from train.sets.listing import Listing


class Finding(TypedDict):
    """One kind of thing worth knowing about a data set."""

    count: int
    says: str
    """What it is and what was done about it, in a sentence."""
    items: list[Any]
    """What it was found in: names, pairs or groups of names, or small tables."""


def finding(says: str, items: list[Any]) -> Finding:
    """Count what was found.

    :param says: see `Finding`.
    """
    return Finding(count=len(items), says=says, items=items)


def name_of(study: Study) -> str:
    """Name a study among those of several sets."""
    return f"{study.source}: {study.name}"


def describe(
    studies: Sequence[Study],
    looks: Sequence[Look],
    listings: Iterable[Listing],
    findings: dict[str, Finding],
) -> None:
    """Add what is worth knowing about the studies that are kept, and a sheet of every set."""
    kept = {(study.source, study.name) for study in studies}
    looks = [look for look in looks if (look.study.source, look.study.name) in kept]
    several = [name_of(study) for study in studies if study.masks is not None and len(study.masks) > 1]
    if several:
        findings["several_masks"] = finding("images with several masks; their union is the lesion", several)
    empty = [name_of(look.study) for look in looks if look.empty_mask]
    if empty:
        findings["empty_masks"] = finding(
            "images of a lesion whose mask marks nothing; taken as not annotated", empty
        )
    unmasked = [
        f"{listing.name}: {name}"
        for listing in listings
        for name in listing.unmasked
        if (listing.name, name) in kept
    ]
    if unmasked:
        findings["no_mask"] = finding("images of a lesion without a mask; only their class is used", unmasked)
    unused = [f"{listing.name}: {column}" for listing in listings for column in listing.unused]
    if unused:
        findings["unused_columns"] = finding("columns of a table that are not used", unused)
    findings["sets"] = finding("data sets that were read", [_sheet(one, looks) for one in listings])


def _sheet(listing: Listing, looks: Sequence[Look]) -> dict[str, Any]:
    own = [look for look in looks if look.study.source == listing.name]
    studies = [look.study for look in own]
    shares = [
        look.lesion_pixels / (look.width * look.height) for look in own if look.lesion_pixels
    ]  # of lesions that are outlined
    return {
        "name": listing.name,
        "layout": listing.layout,
        "path": listing.path,
        "images": len(own),
        "classes": dict(Counter(study.label or "unknown" for study in studies)),
        "masked": sum(study.masks is not None for study in studies),
        "boxed": sum(study.masks is None and bool(study.boxes) for study in studies),
        "glands": sum(study.gland is not None for study in studies),
        "patients": len({study.patient for study in studies if study.patient is not None}),
        "with_spacing": sum(study.spacing_mm is not None for study in studies),
        "width_px": _spread([look.width for look in own]),
        "height_px": _spread([look.height for look in own]),
        "lesion_share": _spread(shares),
    }


def _spread(values: Sequence[float]) -> list[float]:
    """Give the smallest, the median and the largest value; nothing where there is none."""
    if not values:
        return []
    return [round(float(value), 4) for value in (min(values), np.median(values), max(values))]
