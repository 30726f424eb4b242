"""`python -m benchmarks.temporal.page RESULT.json...`: the tables and verdicts of docs/SMOOTHING.md."""

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from benchmarks.temporal.report import verdicts

_COLUMNS = (
    *("run", "method", "mask flicker %", "label changes /min (true)", "label right %", "Dice", "onset ms"),
    "ghost max ms",
)


def page(report: dict[str, Any]) -> str:
    """Write a report as Markdown: a row per method (of the averages the best ones), then the targets."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    for run, by_method in report["runs"].items():
        averages = dict.fromkeys(report["compared"][run][part]["best_average"] for part in ("mask", "label"))
        for method in ("raw", "median of 3", "median of 5", *averages, "ours"):
            lines.append(_row(run if method == "raw" else "", method, by_method[method]))
    lines += ["", "Against the targets:", ""]
    for target, met, figures in verdicts(report):
        text = f"- {'met' if met else '**missed**'}: {target}: {figures}."
        lines += textwrap.wrap(text, 118, subsequent_indent="  ")
    return "\n".join(lines) + "\n"


def _row(run: str, method: str, figures: dict[str, Any]) -> str:
    bold = "**" if method == "ours" else ""
    cells = [
        run,
        f"{bold}{method}{bold}",
        f"{bold}{figures['mask_flicker_percent']:.2f}{bold}",
        f"{bold}{figures['label_changes_per_min']:.0f}{bold} ({figures['true_label_changes_per_min']:.0f})",
        f"{100 * figures['label_right']:.1f}",
        f"{figures['dice']:.3f}",
        f"{figures['onset_ms']['median']:.0f}",
        f"{figures['ghost_ms']['max']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    for path in sys.argv[1:]:
        sys.stdout.write(page(json.loads(Path(path).read_text())) + "\n")
