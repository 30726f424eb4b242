"""One command, one process or several: the same losses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from train.learning.processes import own_rows
from train.run.watch import RunError

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# Group normalisation and no dropout: a network whose course does not blow rounding up. LA-Net's from random
# weights does: 1e-7 of its weights changes the loss of its fourth step by a fifth, in one process too.
SETTINGS = [
    "network.size=32",
    "network.widths=[8, 8, 16]",
    "network.bridge=16",
    "network.key_channels=8",
    "network.dropout=0.0",
    "train.batch=6",
    "train.bf16=false",
    "train.epoch_images=0",
]
BATCH_NORM = """
import torch
from torch import nn
from train.learning.processes import make_fabric, own_rows, share_statistics

fabric = make_fabric(bf16=False, accelerator="cpu")
rows = own_rows(8, fabric)
x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 + 5
weight = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(1))
expected, network = nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3))
whole = x.clone().requires_grad_()
(expected(whole) * weight).sum().backward()
own = slice(rows.first, rows.first + rows.own)
part = x[own].clone().requires_grad_()
y = share_statistics(network)(part)
(y * weight[own]).sum().backward()
assert torch.allclose(y, expected(whole)[own], atol=1e-5)
assert torch.allclose(part.grad, whole.grad[own], atol=1e-5)
assert torch.allclose(network[0].running_mean, expected.running_mean * 0.1 / 0.19, atol=1e-5)
network.eval()
assert torch.allclose(network(x), nn.functional.batch_norm(
    x, network[0].running_mean, network[0].running_var), atol=1e-4)
print("same", flush=True)
"""


class _TwoProcesses:
    world_size, global_rank = 2, 1


def python(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def losses_of(out: Path, cache: Path, *launcher: str) -> list[dict[str, float]]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    words = ["--model", "mtl_oca", "--recipe", "live", "--epochs", "2", "--device", "cpu"]
    places = ["--data", "phantom:30", "--folds", "3", "--fold", "1", "--out", str(out), "--cache", str(cache)]
    python(*launcher, "-m", "train", *words, *places, *settings)
    assert (out / "mtl_oca.onnx").is_file()
    lines = (out / "fold-1" / "epochs.jsonl").read_text().splitlines()
    return [json.loads(line)["losses"] for line in lines]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_processes_that_share_a_batch_lose_what_one_does(tmp_path: Path) -> None:
    """Augmentation, class shares and averaged weights included."""
    alone = losses_of(tmp_path / "alone", tmp_path / "cache")
    shared = losses_of(tmp_path / "shared", tmp_path / "cache", *TORCHRUN)

    assert len(alone) == len(shared) == 2
    for one, other in zip(alone, shared, strict=True):
        assert other == pytest.approx(one, rel=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_batch_normalisation_sees_the_whole_batch(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(BATCH_NORM)

    # What two processes print may come without the end of a line between.
    assert python(*TORCHRUN, str(tmp_path / "worker.py")).count("same") == 2


def test_a_batch_that_cannot_be_shared_is_refused_with_one_that_can() -> None:
    assert own_rows(6, _TwoProcesses()) == (3, 3, 6)  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"a batch of 7 cannot be shared evenly by 2 .* --set train\.batch=8"):
        own_rows(7, _TwoProcesses())  # type: ignore[arg-type]
