"""Deals images out to parts so that each gets its share of every class, data set and kind of annotation."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

from models.networks.registry import CLASSES
from train.data import Study

Unit = list[int]
"""Rows that must stay together."""


def group_units(rows: Iterable[int], unit_of: Callable[[int], Hashable]) -> list[Unit]:
    """Put rows that must stay together into one unit.

    :param unit_of: what rows of one unit have in common.
    """
    units: dict[Hashable, Unit] = defaultdict(list)
    for row in rows:
        units[unit_of(row)].append(row)
    return list(units.values())


def _strata(studies: Sequence[Study], unit: Unit) -> Counter[Hashable]:
    counts: Counter[Hashable] = Counter()
    for row in unit:
        study = studies[row]
        counts[study.label] += 1
        counts[study.source, study.label, study.masks is not None] += 1
    return counts


def deal(studies: Sequence[Study], units: Sequence[Unit], shares: Sequence[float], seed: str) -> list[int]:
    """Deal units out to parts: large ones first, each to the part that lacks most of what is in it.

    A part that got nothing of a class is given the smallest unit of it that another part can spare. Lesions
    are dealt as if there were no normals: networks with and without that class are tested on the same ones.

    :param units: rows of `studies`.
    :param shares: of the parts.
    :return: the part of every unit.
    """
    strata = [_strata(studies, unit) for unit in units]
    totals: Counter[Hashable] = Counter()
    for counts in strata:
        totals.update(counts)
    chance = random.Random(seed)
    normals = [number for number, counts in enumerate(strata) if counts["normal"]]
    order = [number for number, counts in enumerate(strata) if not counts["normal"]]
    chance.shuffle(order)
    parts = list(range(len(shares)))
    chance.shuffle(parts)
    chance.shuffle(normals)
    order += normals
    order.sort(key=lambda number: -len(units[number]))
    held: list[Counter[Hashable]] = [Counter() for _ in shares]
    dealt = [0] * len(units)
    for number in order:

        def surplus(part: int, of: Counter[Hashable] = strata[number]) -> float:
            return sum(
                n * (held[part][kind] + n / 2) / (shares[part] * totals[kind]) for kind, n in of.items()
            )

        dealt[number] = min(parts, key=surplus)
        held[dealt[number]].update(strata[number])
    _spread_classes(strata, dealt, len(shares))
    return dealt


def _spread_classes(strata: Sequence[Counter[Hashable]], dealt: list[int], parts: int) -> None:
    """Give a part that got nothing of a class the smallest unit that another part can spare."""
    for label in CLASSES:
        for part in range(parts):
            having = [number for number in range(len(dealt)) if strata[number][label]]
            if not having or any(dealt[number] == part for number in having):
                continue
            spare = [number for number in having if _can_spare(strata, dealt, number)]
            if spare:
                dealt[min(spare, key=lambda number: (sum(strata[number].values()), number))] = part


def _can_spare(strata: Sequence[Counter[Hashable]], dealt: Sequence[int], number: int) -> bool:
    own = [label for label in CLASSES if strata[number][label]]
    beside = [other for other in range(len(dealt)) if dealt[other] == dealt[number] and other != number]
    return all(any(strata[other][label] for other in beside) for label in own)
