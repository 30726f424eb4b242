"""A temporal run as tables and as a plot."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.daemon import BenchError
from benchmarks.temporal.run import Trace

MASK_TIMES_LOWER = 5.0
GHOST_LIMIT = "150 ms or 5 frames"
RATE_DICE, RATE_PROBABILITY = 0.97, 0.03
"""Stated tolerance between frame rates: mean overlap, and mean difference of a class probability."""


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report as one table, and what it means for the targets."""
    settings = report["settings"]
    table = Table(
        title=f"{settings['network']} network, {settings['seeds']} seeds of {settings['seconds']:g} s, "
        f"5 % of frames dropped; {report['machine']['cpu']}"
    )
    for name in ("", "mask flicker %", "label changes /min", "label right %", "Dice", "onset ms"):
        table.add_column(name, justify="right" if name else "left")
    for name in ("label delay ms", "ghost max ms", "id switches /min"):
        table.add_column(name, justify="right")
    for run, by_name in report["runs"].items():
        table.add_section()
        table.add_row(run, style="bold")
        best = {report["compared"][run][kind]["best_average"] for kind in ("mask", "label")}
        for name, figures in by_name.items():
            if (name.startswith("average") and name not in best) or name.startswith("ours x"):
                continue
            tracked = name in ("raw", "ours")
            table.add_row(
                f"  {name}",
                f"{figures['mask_flicker_percent']:.2f}",
                f"{figures['label_changes_per_min']:.1f}",
                f"{100 * figures['label_right']:.1f}",
                f"{figures['dice']:.3f}",
                f"{figures['onset_ms']['median']:.0f}",
                f"{figures['label_delay_ms']['median']:.0f}",
                f"{figures['ghost_ms']['max']:.0f}",
                f"{figures['id_switches_per_min']:.2f}" if tracked else "",
                style="green" if name == "ours" else "",
            )
    console.print(table)
    for name, met, said in verdicts(report):
        console.print(f"{'met   ' if met else 'MISSED'} {name}: {said}", style="" if met else "red")


def verdicts(report: dict[str, Any]) -> list[tuple[str, bool, str]]:
    """Hold a report against the targets.

    :return: the target, whether it is met, and the figures; the worst run decides.
    """
    runs, compared, alike, cost = (report[key] for key in ("runs", "compared", "rates_alike", "cost"))
    ours = {run: by_name["ours"] for run, by_name in runs.items()}
    found = []
    for kind, key in (("mask", "mask_flicker_percent"), ("label", "label_changes_per_min")):
        ratios = [runs[run]["raw"][key] / max(ours[run][key], 1e-9) for run in runs]
        mean = sum(each["raw"][key] for each in runs.values()) / max(
            sum(each[key] for each in ours.values()), 1e-9
        )
        found.append(
            (
                f"{kind} flicker at least {MASK_TIMES_LOWER:g} times lower than raw",
                min(ratios) >= MASK_TIMES_LOWER,
                f"{mean:.1f} times over all, by run " + ", ".join(f"{ratio:.1f}" for ratio in ratios),
            )
        )
        beaten, misses = 0, []
        for run, against in compared.items():
            for rival, pair in against[kind]["rivals"].items():
                value = pair["ours_at_its_delay"]
                if value is not None and (value < pair["rival"] or value == pair["rival"] == 0):
                    beaten += 1
                else:
                    own = "none so quick" if value is None else f"{value:.2f}"
                    misses.append(f"{rival} at {run} ({pair['rival']:.2f}; ours {own})")
        said = f"{beaten} of {beaten + len(misses)}" + (f"; not {'; '.join(misses)}" if misses else "")
        found.append((f"{kind} flicker lower than every baseline at equal delay", not misses, said))
    gains = {run: ours[run]["dice"] - runs[run]["raw"]["dice"] for run in runs}
    found.append(
        (
            "Dice not lower than raw, higher under noise",
            all(gain > 0 if "noisy" in run else gain >= 0 for run, gain in gains.items()),
            ", ".join(f"{gain:+.3f} ({run})" for run, gain in gains.items()),
        )
    )
    longest = max(each["ghost_ms"]["max"] for each in ours.values())
    late = sum(each["ghosts_too_long"] for each in ours.values())
    found.append((f"no ghost longer than {GHOST_LIMIT}", late == 0, f"{late} were; longest {longest:.0f} ms"))
    onsets = {run: each["onset_ms"]["median"] for run, each in ours.items()}
    found.append(
        (
            "a lesion is shown within 100 ms at the median",
            max(onsets.values()) <= 100,
            ", ".join(f"{onset:.0f} ({run})" for run, onset in onsets.items()),
        )
    )
    switches = max(each["id_switches_per_min"] for each in ours.values())
    found.append(("fewer than 1 identity switch a minute", switches < 1, f"at most {switches:.2f}"))
    found.append(
        (
            "the same at 15, 30 and 60 fps",
            alike["dice_mean"] >= RATE_DICE and alike["probability_apart_mean"] <= RATE_PROBABILITY,
            f"mean Dice {alike['dice_mean']:.3f} (at least {RATE_DICE}), probabilities "
            f"{alike['probability_apart_mean']:.3f} apart (at most {RATE_PROBABILITY})",
        )
    )
    found.append(
        (
            "at most 1.5 ms per frame of 256 x 256 on one core",
            cost["smoothing_256_ms"]["p50"] <= 1.5,
            f"p50 {cost['smoothing_256_ms']['p50']:.2f} ms, {cost['ratio_at_256']:.2f} of the inference of "
            f"{cost['model']} on one thread; at 128 x 128 {cost['smoothing_128_ms']['p50']:.2f} ms",
        )
    )
    return found


def draw(report: dict[str, Any], trace: Trace, file: Path) -> None:
    """Draw truth, raw and smoothed area and malignancy over time, and flicker against delay.

    :raises BenchError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BenchError("--plot needs matplotlib: pip install 'sonostream[dev]'") from None
    figure = Figure(figsize=(13, 10), layout="constrained")
    area, malignancy, curve = figure.subplots(3, 1, height_ratios=(1, 1, 1.1))
    for axes, values, title in (
        (area, trace.area, "lesion area, part of the picture"),
        (malignancy, trace.malignancy, "probability of malignant"),
    ):
        axes.plot(trace.time_s, values["raw"], color="0.65", linewidth=0.8, label="raw")
        axes.plot(trace.time_s, values["truth"], color="tab:green", linewidth=2.5, alpha=0.6, label="truth")
        axes.plot(trace.time_s, values["smoothed"], color="tab:blue", linewidth=1.4, label="smoothed")
        for time_s, change in trace.changes:
            axes.axvline(time_s, color="tab:red", linewidth=0.8, linestyle=":")
            axes.text(time_s, 1.0, f" {change}", transform=axes.get_xaxis_transform(), fontsize=7, va="top")
        axes.set_ylabel(title)
        axes.set_xlim(trace.time_s[0], trace.time_s[-1])
    area.legend(loc="upper right", ncols=3)
    malignancy.set_xlabel("seconds")
    run = next(name for name in report["runs"] if name.endswith("30 fps"))
    by_name = report["runs"][run]
    for prefix, marker, colour in (
        ("average", "o-", "tab:orange"),
        ("ours", "s-", "tab:blue"),
        ("median", "^", "tab:purple"),
        ("raw", "x", "0.4"),
    ):
        points = sorted(
            (figures["mask_delay_ms"]["mean"], figures["mask_flicker_percent"], name)
            for name, figures in by_name.items()
            if name.startswith(prefix)
        )
        curve.plot([p[0] for p in points], [p[1] for p in points], marker, color=colour, label=prefix)
        for delay, flicker, name in points:
            curve.annotate(
                name.removeprefix("average "),
                (delay, flicker),
                fontsize=7,
                xytext=(4, 4),
                textcoords="offset points",
            )
    curve.set_yscale("log")
    curve.set_xlabel(f"mean delay of the mask, ms ({run})")
    curve.set_ylabel("mask flicker, % of the lesion per frame")
    curve.legend()
    figure.suptitle(
        f"{report['settings']['network']} network, seed {report['settings']['first_seed']}, 30 fps"
    )
    figure.savefig(file, dpi=90)
