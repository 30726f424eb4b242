"""Checkpoints on a disk that fails, and files that a crash has cut off."""

from pathlib import Path

import pytest

from train.learning import checkpoint
from train.learning.checkpoint import CheckpointError
from train.learning.saved import read_epochs, rewind


def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, a device that is always full")
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"step": 1})
    (tmp_path / "last.pt.partial").symlink_to("/dev/full")

    with pytest.raises(CheckpointError, match="No space left on device; the checkpoint before it is intact"):
        checkpoint.save(path, {"step": 2})

    assert checkpoint.load(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_or_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="leave out --resume to start anew"):
        checkpoint.load(tmp_path / "last.pt")
    (tmp_path / "last.pt").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(CheckpointError, match="no checkpoint that can be read"):
        checkpoint.load(tmp_path / "last.pt")


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "epochs.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')

    assert [line["epoch"] for line in read_epochs(tmp_path)] == [1, 2]
    rewind(tmp_path, 1)
    assert (tmp_path / "epochs.jsonl").read_text() == '{"epoch": 1}\n'
