"""The Pareto front: what nothing else beats in both time and figure."""

from collections.abc import Mapping


def pareto_front(points: Mapping[str, tuple[float, float | None]]) -> list[str]:
    """Name the points that no other one beats: by being as fast and better, or as good and faster.

    :param points: time (lower is better) and figure (higher is better) by name; a point whose figure is None
        is on no front and beats nothing. Points that are equal in both are on the front together.
    :return: from the fastest to the best.
    """
    known = {name: (time, figure) for name, (time, figure) in points.items() if figure is not None}
    front = [
        name
        for name, (time, figure) in known.items()
        if not any(
            other_time <= time and other >= figure and (other_time, other) != (time, figure)
            for other_time, other in known.values()
        )
    ]
    return sorted(front, key=lambda name: known[name])
