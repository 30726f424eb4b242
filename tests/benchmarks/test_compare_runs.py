"""Two runs of a benchmark, and what is noise between them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.command import bench
from benchmarks.compare import compare, figures

STORED = Path(__file__).parents[2] / "benchmarks/results/epyc-2-cores"


def run(*p50: float, cores: int = 2) -> dict[str, Any]:
    """A run with so many repeats."""
    each = [{"end_to_end_ms": {"p50": value}} for value in p50]
    return {
        "schema": "sonostream.bench.live/1",
        "machine": {"cores": cores},
        "settings": {"fps": 30.0},
        **each[0],
        "repeats": each,
    }


def verdict(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, float]:
    (only,) = compare(before, after).figures
    return only.verdict, only.ratio


def test_what_repeats_differ_by_is_noise() -> None:
    assert verdict(run(10, 12, 14), run(13, 15, 17)) == ("noise", 15 / 12)


def test_a_change_larger_than_both_spreads_is_told_with_its_direction() -> None:
    assert verdict(run(10, 10.2, 10.4), run(8, 8.1, 8.3)) == ("lower", 8.1 / 10.2)
    assert verdict(run(8, 8.1, 8.3), run(10, 10.2, 10.4))[0] == "higher"


def test_single_runs_cannot_tell() -> None:
    assert verdict(run(10), run(20)) == ("unknown", 2.0)


def test_what_was_not_alike_is_named() -> None:
    assert compare(run(1), run(1, cores=8)).differences == ["machine.cores: 2 and 8"]


def test_settings_and_counts_of_repeats_are_no_figures() -> None:
    assert list(figures(run(10, 11))) == ["end_to_end_ms.p50"]
    found = figures(run(10, 11))["end_to_end_ms.p50"]
    assert (found.median, found.low, found.high, found.repeats) == (10.5, 10, 11, 2)


def test_a_summary_of_rounds_is_one_figure_with_its_spread() -> None:
    report = {"schema": "sonostream.bench.offline/1", "ratio": {"median": 0.9, "min": 0.8, "max": 0.95}}
    better = report | {"ratio": {"median": 1.3, "min": 1.25, "max": 1.35}}

    assert list(figures(report)) == ["ratio"]
    assert verdict(report, report)[0] == "noise"
    assert verdict(report, better)[0] == "higher"


def test_a_stored_run_equals_itself() -> None:
    for file in STORED.glob("live-*.json"):
        report = json.loads(file.read_text())
        comparison = compare(report, report)
        assert comparison.figures
        assert not comparison.differences
        assert {each.ratio for each in comparison.figures} == {1.0}


def test_the_command_prints_ratios(tmp_path: Path) -> None:
    files = []
    for name, report in (("a", run(10, 10.2)), ("b", run(8, 8.1))):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(report))

    result = CliRunner().invoke(bench, ["compare", *map(str, files)])

    assert result.exit_code == 0
    assert "0.797" in result.output
    assert "lower" in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "is not a run of a benchmark"),
        ('{"schema": "sonostream.bench.soak/1"}', "runs of `bench live` and of `bench soak`"),
    ],
)
def test_what_cannot_be_compared_is_one_clear_line(content: str | None, message: str, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(run(1)))
    if content is not None:
        bad.write_text(content)

    result = CliRunner().invoke(bench, ["compare", str(good), str(bad)])

    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
