"""Hostile bytes fail in the announced way, and in no other; see `targets.py`."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.sources import SourceInvalidFrame
from streamer.sources.pictures import decode_gray
from tests.fuzz.targets import TARGETS

SEEDS = [
    pytest.param(name, number, id=f"{name}-{number}")
    for name, target in TARGETS.items()
    for number in range(len(target.seeds))
]


@pytest.mark.parametrize(("name", "number"), SEEDS)
def test_a_hostile_input_fails_as_announced_or_not_at_all(name: str, number: int) -> None:
    target = TARGETS[name]
    target.run(target.seeds[number])


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_input_fails_as_announced_or_not_at_all(name: str) -> None:
    target = TARGETS[name]
    small = [seed for seed in target.seeds if len(seed) <= 10_000]

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        seed=st.sampled_from(small), at=st.integers(0, 10_000), patch=st.binary(max_size=8), cut=st.booleans()
    )
    def damage(seed: bytes, at: int, patch: bytes, cut: bool) -> None:
        at = at % (len(seed) + 1)
        target.run(seed[:at] + patch + (b"" if cut else seed[at + len(patch) :]))

    damage()


EVERYTHING = """
import resource
import streamer.sources.dicom
from tests.fuzz import formats
from tests.fuzz.targets import TARGETS

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 30), -1))
before = peak()
for name, target in TARGETS.items():
    for number, seed in enumerate(target.seeds):
        start = peak()
        target.run(seed)
        if peak() - start > 64 << 10:
            print(name, number, "took", peak() - start, "KiB")
streamer.sources.dicom.MAX_INFLATED_BYTES = 256 << 20
formats.dicom(formats.deflated_bomb(300))
print("in all", peak() - before)
"""


def test_no_seed_takes_the_memory_that_it_claims() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EVERYTHING], capture_output=True, text=True, timeout=100, check=False
    )

    assert done.returncode == 0, done.stderr
    *greedy, total = done.stdout.strip().splitlines()
    assert greedy == []
    # 256 MB were inflated, and pictures of several gigabytes were claimed.
    assert int(total.split()[-1]) < 150 << 10


def test_a_picture_that_claims_65535_pixels_a_side_is_refused_before_memory_is_taken() -> None:
    import tracemalloc

    claims = (
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
        + np.array([65535, 65535], ">u4").tobytes()
        + b"\x08\x00"
        + bytes(40)
    )
    tracemalloc.start()
    with pytest.raises(SourceInvalidFrame, match="65535x65535"):
        decode_gray(claims)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 1 << 20
