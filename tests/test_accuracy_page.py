import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "ACCURACY.md").read_text()
STORED = ROOT / "benchmarks" / "results" / "busi" / "default"
FIGURES = ("dice", "missed", "false_positives", "auc", "accuracy", "calibration_error")


def rows() -> dict[str, list[str]]:
    found = re.findall(r"^\| ([^|]+) \| ((?:\d\.\d{3} \| ?){6})$", PAGE, re.MULTILINE)
    return {name: figures.split(" | ")[:6] for name, figures in ((n, f.rstrip(" |")) for n, f in found)}


def test_the_accuracy_page_shows_the_stored_figures() -> None:
    changes = json.loads((STORED / "shifts.json").read_text())["changes"]
    parts = list(json.loads((STORED / "evaluation.json").read_text())["results"].values())
    shown = rows()

    assert len(shown) == len(changes) + len(parts)
    for name, figures in changes.items():
        assert shown[name] == [f"{figures[key]:.3f}" for key in FIGURES]
    for figures, part in zip(list(shown.values()), parts, strict=False):
        assert figures == [f"{part[key]['value']:.3f}" for key in FIGURES]


def test_the_stored_figures_are_those_of_the_model_that_ships() -> None:
    card = (ROOT / "models" / "zoo" / "default.md").read_text()
    (first, *_) = json.loads((STORED / "evaluation.json").read_text())["results"].values()

    for name, key in (("Dice, lesions", "dice"), ("AUC, malignant against benign", "auc")):
        low, high = first[key]["interval_95"]
        assert f"| {name} | {first[key]['value']:.3f} [{low:.3f}, {high:.3f}]" in card


def test_the_accuracy_page_shows_the_stored_comparison_of_networks() -> None:
    compared = json.loads((STORED.parent / "comparison" / "comparison.json").read_text())

    assert len(compared["tested_alike"]) == 1, "the page says that all were tested on the same lesions"
    for row in compared["networks"]:
        cells = [row["label"], "{} x {}".format(*row["input"])]
        papers = (row["paper"] or {"figures": {}})["figures"]
        for name in ("dice", "auc", "accuracy"):
            own = row["figures"][name]
            cells.append("{:.3f} [{:.2f}, {:.2f}]".format(own["value"], *own["interval_95"]) if own else "")
            cells.append(f"{papers[name]['value']:.3f}" if name in papers else "")
        cells.append(f"{row['latency_ms']['p50']:.1f}")
        assert f"| {' | '.join(cells)} |" in PAGE


def test_the_accuracy_page_shows_the_stored_ablations() -> None:
    stored = sorted((STORED.parent / "ablations").glob("*.json"))

    assert len(stored) >= 5, "one of every paper"
    for file in stored:
        ((study, table),) = json.loads(file.read_text())["tables"].items()
        others = [row for row in table["rows"] if row["name"] != table["reference"]]
        assert others
        for row in others:
            cells = [study, row["name"], ", ".join(map(str, row["folds"]))]
            for name in ("dice", "auc", "accuracy"):
                apart = row["minus_reference"].get(name)
                cells.append(
                    "{:+.3f} [{:+.2f}, {:+.2f}]".format(apart["value"], *apart["interval_95"])
                    if apart
                    else ""
                )
            assert f"| {' | '.join(cells)} |" in PAGE


def test_no_picture_of_a_patient_is_stored() -> None:
    for file in STORED.parent.rglob("*"):
        assert file.suffix != ".html" or "data:image" not in file.read_text(), file
