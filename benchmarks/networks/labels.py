"""Places the names of points so that they cover neither each other nor the points."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

_WAYS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
_STEPS = (0.0, 7.0, 15.0, 26.0, 40.0, 56.0)
"""How far from the nearest place, in pixels."""
_GAP = 11.0
_HARD, _SOFT = 200.0, 12.0


class Box(NamedTuple):
    """A rectangle, in pixels, y upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "Box") -> float:
        """Area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    @property
    def centre(self) -> tuple[float, float]:
        """Its middle."""
        return (self.left + self.right) / 2, (self.bottom + self.top) / 2


def place(
    points: Mapping[str, tuple[float, float]],
    sizes: Mapping[str, tuple[float, float]],
    inside: Box,
    avoid: Sequence[Box] = (),
    clear: Sequence[Box] = (),
    radius: float = 5.0,
) -> dict[str, Box]:
    """Choose a place for every point's label, the most crowded points first.

    :param points: where they are, in pixels, by name.
    :param sizes: width and height of each label.
    :param inside: where labels must be.
    :param avoid: what a label should not cover, such as error bars and lines; it may if all else is worse.
    :param clear: what a label must not cover.
    :param radius: of a point.
    """
    dots = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in points.values()]
    crowd = {
        name: sum(abs(x - other) + abs(y - above) < 80 for other, above in points.values())
        for name, (x, y) in points.items()
    }
    placed: dict[str, Box] = {}
    for name in sorted(points, key=lambda one: (-crowd[one], points[one])):
        hard = [*dots, *placed.values(), *clear]
        placed[name] = min(
            _places(points[name], sizes[name]),
            key=lambda found: found[0] + _cost(found[1], hard, avoid, inside),
        )[1]
    return placed


def _places(point: tuple[float, float], size: tuple[float, float]) -> list[tuple[float, Box]]:
    """List places with what their distance costs."""
    (x, y), (width, height) = point, size
    found = []
    for step in _STEPS:
        for order, (across, up) in enumerate(_WAYS):
            reach = (_GAP + step) * (0.7 if across and up else 1)
            left = x + across * (reach + width / 2) - width / 2
            bottom = y + up * (reach + height / 2) - height / 2
            found.append((step + order, Box(left, bottom, left + width, bottom + height)))
    return found


def _cost(box: Box, hard: Sequence[Box], soft: Sequence[Box], inside: Box) -> float:
    area = (box.right - box.left) * (box.top - box.bottom)
    outside = area - box.overlap(inside)
    return (
        _HARD * (outside > 1e-6)
        + _HARD * sum(box.overlap(one) > 0 for one in hard)
        + outside
        + sum(box.overlap(one) for one in hard)
        + _SOFT * sum(box.overlap(one) > 0 for one in soft)
    )
