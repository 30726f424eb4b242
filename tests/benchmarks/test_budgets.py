"""Budgets, and runs that keep or miss them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.check import Budget, check, read_budgets
from benchmarks.command import bench

STORED = Path(__file__).parents[2] / "benchmarks/results/epyc-2-cores"


def budget(**changes: Any) -> Budget:
    fields: dict[str, Any] = {"benchmark": "live", "figure": "ratio.p50", "why": "so", "at_most": 1.15}
    return Budget(**(fields | changes))


def run(p50: float, **more: Any) -> dict[str, Any]:
    return {"schema": "sonostream.bench.live/1", "ratio": {"p50": p50}, **more}


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ({"at_most": 1.15}, "met"),
        ({"at_most": 1.0}, "MISSED"),
        ({"at_most": None, "at_least": 1.0}, "met"),
        ({"at_most": None, "at_least": 1.2}, "MISSED"),
    ],
)
def test_a_figure_is_held_to_its_bound(limits: dict[str, float], status: str) -> None:
    (finding,) = check(run(1.15), [budget(**limits)])

    assert finding.status == status


def test_a_figure_that_is_missing_is_neither_met_nor_missed() -> None:
    (finding,) = check(run(1.0), [budget(figure="references.pyav.ours_over.p50")])

    assert finding.status == "not measured"


def test_a_key_may_hold_dots() -> None:
    report = run(1.0, load={"1.5": {"p99": 7.0}, "1": {"5": {"p99": 9.0}}})

    (finding,) = check(report, [budget(figure="load.1.5.p99", at_most=8)])

    assert (finding.value, finding.status) == (7.0, "met")


def test_a_budget_holds_only_where_it_says() -> None:
    thirty = budget(where={"settings.fps": [15.0, 30.0]}, at_most=1)
    coded = budget(where={"settings.feed": "h264"}, at_most=2)

    findings = check(run(1.5, settings={"fps": 60.0, "feed": "h264"}), [thirty, coded])

    assert [finding.budget for finding in findings] == [coded]


def test_the_budgets_that_ship_can_be_read_and_are_for_figures_of_stored_runs() -> None:
    budgets = read_budgets()
    measured = set()
    for file in STORED.glob("*.json"):
        report = json.loads(file.read_text())
        if any(each.benchmark == str(report.get("schema")).split(".")[-1].split("/")[0] for each in budgets):
            findings = check(report, budgets)
            measured |= {finding.budget.figure for finding in findings if finding.value is not None}

    assert "overhead_ratio.p50" in measured
    assert len(budgets) == len({(each.benchmark, each.figure, str(each.where)) for each in budgets})


def test_a_missed_budget_ends_the_command_with_1_and_names_the_figure(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(
        json.dumps(
            {
                "schema": "sonostream.bench.live/1",
                "settings": {"feed": "phantom", "fps": 30.0},
                "overhead_ratio": {"p50": 2.0, "p99": 1.0},
                "lost_by_subscriber": 0,
            }
        )
    )

    result = CliRunner().invoke(bench, ["check", str(file)])

    assert result.exit_code == 1
    assert "missed: overhead_ratio.p50 is 2, at most 1.15" in result.output
    assert "missed: overhead_ratio.p99" not in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("budget = 3", "Expected `array`"),
        ("[[budget]", "line 1"),
        ('[[budget]]\nbenchmark = "live"\nfigure = "a"\nwhy = "b"', "give at_most or at_least"),
        ('[[budget]]\nbenchmark = "live"\nfigure = "a"\nwhy = "b"\nat_mots = 1', "at_mots"),
        (
            '[[budget]]\nbenchmark = "soak"\nfigure = "a"\nwhy = "b"\nat_most = 1',
            "there is no budget for such",
        ),
    ],
)
def test_a_wrong_budget_is_one_clear_line(text: str, message: str, tmp_path: Path) -> None:
    budgets, file = tmp_path / "budgets.toml", tmp_path / "run.json"
    budgets.write_text(text)
    file.write_text(json.dumps(run(1.0)))

    result = CliRunner().invoke(bench, ["check", str(file), "--budgets", str(budgets)])

    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
