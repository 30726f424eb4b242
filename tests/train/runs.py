"""A finished run's folder, as the trainer leaves it, with an untrained network and phantom pictures."""

import json
from pathlib import Path

import numpy as np
import torch

import models
from models.networks.base import Network
from train.data import Images
from train.evaluation.answers import Answers, ask_network, save_answers
from train.learning import checkpoint
from train.phantoms import Mixture, render

RECIPE = 'name = "paper"\n[optimizer]\nname = "adam"\nlr = 0.001\n[train]\nbatch = 16\nepochs = 2\n'
FINDINGS = {
    "near_duplicates": {
        "count": 1,
        "says": "pairs of images that show nearly the same",
        "items": [["a", "b"]],
    },
    "sets": {
        "count": 1,
        "says": "data sets that were read",
        "items": [
            {
                "name": "busi",
                "layout": "BUSI",
                "path": "data",
                "images": 9,
                "classes": {"benign": 3, "malignant": 3, "normal": 3},
                "masked": 9,
            }
        ],
    },
}


def network() -> Network:
    torch.manual_seed(0)
    return models.create("mtl_oca", widths=(8, 8, 16), bridge=16, key_channels=8, size=64, edge_norm="fixed")


def pictures(seed: int = 0) -> Images:
    """Nine phantom pictures of 64 x 64, three of each class, named as if they were BUSI's."""
    images = render("test", Mixture(stills=9 * (seed + 1), sweeps=0, frames=0), 64).take(
        np.arange(9 * seed, 9 * seed + 9)
    )
    return Images(
        tuple(f"{name}.png" for name in images.names),
        images.groups,
        images.pixels,
        images.masks,
        images.labels,
        sources=("busi",) * 9,
    )


def finished_run(folder: Path, folds: int = 2) -> Path:
    """Write a run's folder: what `train.report.write` reads."""
    net = network()
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "data.json").write_text(
        json.dumps(
            {
                "findings": FINDINGS,
                "command": "sonostream train --model mtl_oca --data <BUSI> --folds 2",
                "split": "grouped",
                "selection": "inner",
                "heldout": "leave_out",
            }
        )
    )
    rows = ["image,source,class,group,fold"]
    for number in range(1, folds + 1):
        images = pictures(number - 1)
        fold = folder / f"fold-{number}"
        fold.mkdir()
        asked = ask_network(net, images, temperature=1.5)
        # Untrained masks would be alike everywhere: shift the truth, more for every image.
        lesion = np.stack([np.roll(mask, 2 * row, axis=1) for row, mask in enumerate(images.masks)])
        save_answers(fold / "answers.npz", Answers(lesion, asked.classes, 1.5), images)
        checkpoint.save(
            fold / "best.pt",
            {"network": net.name, "options": net.options, "weights": net.state_dict(), "epoch": 2, "step": 4},
        )
        (fold / "epochs.jsonl").write_text("".join(json.dumps(_epoch(epoch)) + "\n" for epoch in (1, 2)))
        rows += [f"{name},busi,benign,{row},{number}" for row, name in enumerate(images.names)]
    (folder / "folds.csv").write_text("\n".join(rows) + "\n")
    return folder


def _epoch(epoch: int) -> dict[str, object]:
    return {
        "epoch": epoch,
        "step": 2 * epoch,
        "losses": {"total": 1 / epoch, "mask": 0.5 / epoch},
        "validation": {"real": {"dice": 0.3 * epoch, "auc": 0.4 * epoch, "accuracy": 0.45 * epoch}},
        "score": 0.1 * epoch,
    }
