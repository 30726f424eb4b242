"""Synthetic images: kept between runs, and made anew when the phantom changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from train import phantoms
from train.data import DataError, Images
from train.phantoms import Mixture, load_or_render, render

ONE = Mixture(stills=1, sweeps=1, frames=1)


def test_kept_images_come_back_with_everything_that_is_known_of_them(tmp_path: Path) -> None:
    made = load_or_render("train", ONE, 32, tmp_path, glands=True)
    kept = load_or_render("train", ONE, 32, tmp_path, glands=True)

    assert made.glands is not None
    assert kept.glands is not None
    assert made.glands.any()
    assert np.array_equal(made.glands, kept.glands)
    assert kept.gland_known.all()
    assert np.array_equal(made.spacing_mm, kept.spacing_mm)
    assert (kept.spacing_mm > 0.1).all()
    assert kept.sources == made.sources == ("phantom", "phantom")
    assert render("train", ONE, 32).glands is None


def test_a_change_of_the_phantom_makes_kept_images_of_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_or_render("train", ONE, 32, tmp_path)
    monkeypatch.setattr(phantoms, "version", lambda: "another")
    rendered = []

    def counted(*args: Any, **more: Any) -> Images:
        rendered.append(args)
        return render(*args, **more)

    monkeypatch.setattr(phantoms, "render", counted)
    load_or_render("train", ONE, 32, tmp_path)
    load_or_render("train", ONE, 32, tmp_path)
    assert len(rendered) == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_the_version_follows_the_phantoms_source_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = {name: tmp_path / name for name in ("streamer.sources.phantom", "train", "models")}
    for package in packages.values():
        package.mkdir()
    (packages["streamer.sources.phantom"] / "speckle.py").write_text("GRAIN = 1")
    (packages["train"] / "phantoms.py").write_text("")
    (packages["train"] / "loop.py").write_text("")
    monkeypatch.setattr(phantoms, "files", packages.__getitem__)
    version = phantoms.version.__wrapped__

    before = version()
    (packages["train"] / "loop.py").write_text("of no consequence")
    assert version() == before
    (packages["streamer.sources.phantom"] / "speckle.py").write_text("GRAIN = 2")
    assert version() != before


def test_a_cache_without_room_is_told_and_left_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(DataError, match="cannot be written .No space left on device.; free some room"):
        load_or_render("train", Mixture(1, 0, 0), 32, tmp_path)
    assert list(tmp_path.iterdir()) == []
