"""`sonostream bench check`: a run against the budgets in budgets.toml."""

import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.compare import kind
from benchmarks.daemon import BenchError

BUDGETS = Path(__file__).with_name("budgets.toml")

Status = Literal["met", "MISSED", "not measured"]


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one figure of one benchmark may be."""

    benchmark: str
    """Such as `live`."""
    figure: str
    """Its keys in the report, with dots between."""
    why: str
    at_most: float | None = None
    at_least: float | None = None
    where: dict[str, Any] = {}
    """Runs that it holds for: path in the report -> value, or list of values."""

    @property
    def bound(self) -> str:
        """The limit in words."""
        return f"at most {self.at_most:g}" if self.at_most is not None else f"at least {self.at_least:g}"


class _Budgets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    budget: list[Budget]


class Finding(NamedTuple):
    """A budget, held against a run."""

    budget: Budget
    value: float | None
    """None: the run did not measure it."""

    @property
    def status(self) -> Status:
        """Whether the budget is kept."""
        if self.value is None:
            return "not measured"
        high = math.inf if self.budget.at_most is None else self.budget.at_most
        low = -math.inf if self.budget.at_least is None else self.budget.at_least
        return "met" if low <= self.value <= high else "MISSED"


def read_budgets(file: Path = BUDGETS) -> list[Budget]:
    """Read budgets.

    :raises BenchError: if the file is missing, no TOML, or says what is not known.
    """
    try:
        budgets = msgspec.convert(tomllib.loads(file.read_text()), _Budgets).budget
    except OSError as error:
        raise BenchError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # of tomllib and msgspec
        raise BenchError(f"{file}: {error}") from None
    for budget in budgets:
        if (budget.at_most is None) == (budget.at_least is None):
            raise BenchError(f"{file}: {budget.benchmark} {budget.figure}: give at_most or at_least")
    return budgets


def check(report: dict[str, Any], budgets: list[Budget]) -> list[Finding]:
    """Hold a run against the budgets for it.

    :raises BenchError: if there is none for such a run.
    """
    name = kind(report)
    found = [
        Finding(budget, _number(report, budget.figure))
        for budget in budgets
        if budget.benchmark == name and _applies(report, budget)
    ]
    if not found:
        raise BenchError(f"there is no budget for such a run of `bench {name}`")
    return found


def _applies(report: dict[str, Any], budget: Budget) -> bool:
    for path, wanted in budget.where.items():
        values = list(_look_up(report, path))
        allowed = wanted if isinstance(wanted, list) else [wanted]
        if not values or values[0] not in allowed:
            return False
    return True


def _number(report: dict[str, Any], path: str) -> float | None:
    for value in _look_up(report, path):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def _look_up(node: Any, path: str) -> Iterator[Any]:
    """Follow a path; keys may hold dots themselves, as `1.5` does."""
    if not path:
        yield node
    elif isinstance(node, dict):
        for key, value in node.items():
            if path == key or path.startswith(f"{key}."):
                yield from _look_up(value, path[len(key) + 1 :])


def show(findings: list[Finding], console: Console) -> None:
    """Print every budget, what was measured, and why it is there."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "figure", "measured", "budget"):
        table.add_column(name, justify="right" if name == "measured" else "left", overflow="fold")
    for finding in findings:
        budget = finding.budget
        table.add_row(
            finding.status,
            f"{budget.figure}\n[not bold dim]{budget.why}[/]",
            "" if finding.value is None else f"{finding.value:g}",
            budget.bound,
            style={"met": "", "MISSED": "bold red", "not measured": "dim"}[finding.status],
        )
    console.print(table)
