"""Training on a network and pictures small enough for a test."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import models
from models.networks.base import Network
from train import checkpoint
from train.augment import UNKNOWN, Batch, Strength, augment
from train.data import Images
from train.loop import Budget, Report, Trainer, TrainingError, predict, rate
from train.metrics import dice
from train.phantoms import Mixture, load_or_render, render
from train.recipe import recipe

STILL = Strength(
    rotation_deg=0,
    zoom=0,
    aspect=0,
    shift=0,
    gain=0,
    gamma=0,
    depth_gain=0,
    contrast=0,
    speckle=0,
    blur=0,
    coarse=1,
    compression=0,
    marks=0,
    borders=0,
)


def small_network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return models.create("mtl_oca", widths=(8, 8, 16), bridge=16, key_channels=8, size=32, edge_norm="fixed")


@pytest.fixture(scope="module")
def pictures() -> Images:
    return render("train", Mixture(stills=9, sweeps=0, frames=0), 64)


def trainer(pictures: Images, **changes: object) -> Trainer:
    return Trainer(small_network(), pictures, None, recipe("live", batch=4, bf16=False, **changes), seed=3)


def test_a_resumed_run_ends_exactly_as_one_that_was_not_stopped(pictures: Images, tmp_path: Path) -> None:
    whole = trainer(pictures)
    whole.fit(Budget(steps=8, validations=2), {"validation": pictures}, tmp_path / "whole")

    class Stopped(Exception):
        pass

    def stop(_: Report) -> None:
        raise Stopped

    first = trainer(pictures)
    with pytest.raises(Stopped):
        first.fit(Budget(steps=8, validations=2), {"validation": pictures}, tmp_path / "half", stop)
    second = trainer(pictures)
    second.restore(checkpoint.load(tmp_path / "half" / "last.pt"))
    assert second.step == 4
    torch.manual_seed(99)  # whatever ran in between
    second.restore(checkpoint.load(tmp_path / "half" / "last.pt"))
    second.fit(Budget(steps=8, validations=2), {"validation": pictures}, tmp_path / "half")

    for part in ("weights", "averaged", "best"):
        for name, value in whole.state()[part].items():
            assert torch.equal(value, second.state()[part][name]), f"{part} {name}"


def test_a_checkpoint_of_other_settings_is_refused(pictures: Images, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "last.pt", trainer(pictures).state())
    with pytest.raises(checkpoint.CheckpointError, match="resume with the settings it was started with"):
        trainer(pictures, lr=0.5).restore(checkpoint.load(tmp_path / "last.pt"))


def test_eight_pictures_are_learned_by_heart(pictures: Images) -> None:
    eight = pictures.take(np.arange(8))
    run = trainer(eight, augment=STILL, label_smoothing=0.0, ema=0.0, class_shares=None, weight_decay=0.0)
    for _ in range(250):
        run.train_step(4e-3)

    small = augmented(eight, STILL)
    lesion, logits = predict(run.network, small, bf16=False)

    assert dice(lesion >= 0.5, small.masks >= 128)[small.labels != 2].mean() > 0.8
    assert (logits.argmax(axis=1) == small.labels).mean() >= 7 / 8


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_images(pictures: Images) -> None:
    run = trainer(pictures)
    with torch.no_grad():
        next(run.network.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"not finite at step 0, images \[\d+, \d+, \d+, \d+\]"):
        run.train_step(1e-3)


def test_the_rate_warms_up_and_falls_to_the_end() -> None:
    live = recipe("live")
    rates = [rate(live, progress) for progress in (0, 0.02, 0.5, 1)]
    assert rates[0] < rates[2] < rates[1] == live.lr
    assert rates[3] == pytest.approx(0.01 * live.lr)
    assert rate(recipe("paper"), 0.7) == recipe("paper").lr


def test_a_crop_without_its_lesion_has_no_class_to_learn(pictures: Images) -> None:
    batch = as_batch(pictures)
    generator = torch.Generator().manual_seed(0)
    unknown = 0
    for _ in range(30):
        changed = augment(batch, 32, Strength(shift=0.6), generator)
        unknown += int((changed.labels == UNKNOWN).sum())
        gone = changed.masks.sum(dim=(1, 2, 3)) == 0
        assert (changed.labels[gone & (batch.labels != 2)] == UNKNOWN).all()
        assert (changed.labels[batch.labels == 2] == 2).all()
    assert unknown > 0


def test_marks_and_gain_change_pictures_but_never_their_masks(pictures: Images) -> None:
    batch = as_batch(pictures)
    plain = augment(batch, 32, STILL, torch.Generator().manual_seed(5))
    strong = Strength(rotation_deg=0, zoom=0, aspect=0, shift=0, borders=0, marks=1)
    changed = augment(batch, 32, strong, torch.Generator().manual_seed(5))

    both = changed.masks.mean(dim=(1, 2, 3)), plain.masks.mean(dim=(1, 2, 3))
    assert torch.allclose(*both, atol=1e-5)
    assert not torch.allclose(changed.frames, plain.frames, atol=0.05)
    assert changed.frames.min() >= 0
    assert changed.frames.max() <= 1


def test_a_failed_write_leaves_the_checkpoint_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"step": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(checkpoint.CheckpointError, match="No space left on device; the checkpoint before it"):
        checkpoint.save(path, {"step": 2})

    assert checkpoint.load(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_or_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(checkpoint.CheckpointError, match="leave out --resume to start anew"):
        checkpoint.load(tmp_path / "last.pt")
    (tmp_path / "last.pt").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint that can be read"):
        checkpoint.load(tmp_path / "last.pt")


def test_synthetic_parts_share_no_picture_and_are_kept(tmp_path: Path) -> None:
    mixture = Mixture(stills=3, sweeps=1, frames=2)
    parts = {part: load_or_render(part, mixture, 32, tmp_path) for part in ("train", "validation", "test")}

    assert len({name for images in parts.values() for name in images.names}) == 15
    assert all(re.match(r"(still|sweep)-\d+", name) for name in parts["train"].names)
    again = load_or_render("train", mixture, 32, tmp_path)
    assert np.array_equal(again.pixels, parts["train"].pixels)
    assert again.names == parts["train"].names


def as_batch(images: Images) -> Batch:
    return Batch(
        torch.from_numpy(images.pixels)[:, None].float() / 255,
        torch.from_numpy(images.masks)[:, None].float() / 255,
        torch.from_numpy(images.labels),
    )


def augmented(images: Images, strength: Strength) -> Images:
    """What the trainer sees of the pictures, the half of them that it does not flip."""
    batch = augment(as_batch(images), 32, strength, torch.Generator().manual_seed(0))
    pixels = (batch.frames[:, 0] * 255).round().byte().numpy()
    masks = (batch.masks[:, 0] * 255).round().byte().numpy()
    return Images(images.names, images.groups, pixels, masks, images.labels)
