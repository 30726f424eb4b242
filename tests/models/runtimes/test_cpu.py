import os

import pytest

from models.runtimes import cpu

FOUR_WITH_HYPERTHREADS = {
    f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list": f"{number % 4},{number % 4 + 4}"
    for number in range(8)
}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A machine of four cores with two hyperthreads each, as the files of Linux that describe it."""
    files = dict(FOUR_WITH_HYPERTHREADS)
    monkeypatch.setattr(cpu, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    return files


@pytest.mark.usefixtures("machine")
def test_hyperthreads_are_not_counted_as_cores() -> None:
    assert cpu.usable_cores() == 4


@pytest.mark.usefixtures("machine")
def test_cores_that_the_process_may_not_use_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 4})
    assert cpu.usable_cores() == 2


@pytest.mark.parametrize(
    ("cpu_max", "cores"),
    [
        ("max 100000", 4),
        ("200000 100000", 2),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("900000 100000", 4),
    ],
)
def test_the_quota_of_a_container_limits_the_cores(machine: dict[str, str], cpu_max: str, cores: int) -> None:
    machine["/sys/fs/cgroup/cpu.max"] = cpu_max
    assert cpu.usable_cores() == cores


def test_a_machine_that_describes_nothing_counts_its_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_read", lambda _path: "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2}, raising=False)
    assert cpu.usable_cores() == 3
    assert cpu.notable_flags() == []


def test_instruction_sets_have_the_names_people_know(machine: dict[str, str]) -> None:
    machine["/proc/cpuinfo"] = (
        "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 avx512_bf16 amx_bf16\n"
    )
    assert cpu.name() == "Some CPU"
    assert cpu.notable_flags() == ["AVX2", "AVX512-BF16", "AMX-BF16"]
