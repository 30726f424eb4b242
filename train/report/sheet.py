"""The data sheet: which images, what was found wrong with them, under which licence."""

from collections.abc import Mapping
from typing import Any, NamedTuple

_SHOWN = 6
LICENCES = {
    "BUSI": "CC BY 4.0 by its article (Al-Dhabyani et al., Data in Brief 28 (2020) 104863), to be cited in "
    "any use; the archive itself holds no licence file",
    "BUS-BRA": "as its Zenodo record states; cite Gómez-Flores et al., Medical Physics 51 (2024) 3110",
    "UDIAT": "given by its authors on request, for research (Yap et al., IEEE JBHI 22 (2018) 1218)",
    "phantom": "Apache-2.0, synthetic: nothing about people",
}


class Set(NamedTuple):
    """One data set."""

    name: str
    says: str
    licence: str


class Defect(NamedTuple):
    """One kind of thing found in the data."""

    found: int
    says: str
    items: str
    """The first few."""


class Sheet(NamedTuple):
    """What a report says of its data."""

    sets: list[Set]
    defects: list[Defect]


def read_sheet(findings: Mapping[str, Any]) -> Sheet:
    """Put the findings of `train.sets.read` into words."""
    described = findings.get("sets", {}).get("items", [])
    defects = [
        Defect(found["count"], found["says"], _some(found["items"]))
        for kind, found in findings.items()
        if kind != "sets" and isinstance(found, Mapping) and "says" in found
    ]
    return Sheet([Set(one["name"], _describe(one), _licence(one)) for one in described], defects)


def _describe(one: Mapping[str, Any]) -> str:
    classes = ", ".join(f"{count} {name}" for name, count in one.get("classes", {}).items())
    says = f"{one['images']} images ({classes}); {one.get('masked', 0)} with their outline known"
    for key, words in (
        ("boxed", "with boxes only"),
        ("glands", "with gland masks"),
        ("patients", "patients named"),
        ("with_spacing", "with a known pixel size"),
    ):
        if one.get(key):
            says += f", {one[key]} {words}"
    if size := one.get("width_px"):
        says += f"; {size[0]:.0f} to {size[2]:.0f} pixels wide"
    if share := one.get("lesion_share"):
        says += f"; lesions cover {share[0]:.1%} to {share[2]:.0%} of the picture, median {share[1]:.1%}"
    return says


def _licence(one: Mapping[str, Any]) -> str:
    layout, name = str(one.get("layout", "")).lower(), str(one["name"]).lower()
    for known, licence in LICENCES.items():
        if known.lower() in (layout, name) or name.startswith(known.lower()):
            return licence
    return "not known here; ask who gave you the data"


def _some(items: list[Any]) -> str:
    shown = "; ".join(_item(item) for item in items[:_SHOWN])
    return shown + (f"; and {len(items) - _SHOWN} more" if len(items) > _SHOWN else "")


def _item(item: Any) -> str:
    if isinstance(item, Mapping):
        return ": ".join(str(value) for value in item.values())
    return " = ".join(map(str, item)) if isinstance(item, list | tuple) else str(item)
