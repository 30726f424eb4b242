"""The processor this process may use: how many cores, and which instructions matter to the engines."""

import os
import platform
from pathlib import Path

NOTABLE_FLAGS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
    "asimd": "NEON",
    "sve": "SVE",
    "bf16": "ARM-BF16",
}
"""Flag as Linux spells it -> the name people know it by."""


def name() -> str:
    """Name of the processor's model."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def notable_flags() -> list[str]:
    """Instruction sets that make inference faster, by the names people know."""
    flags = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return [known for flag, known in NOTABLE_FLAGS.items() if flag in flags]


def usable_cores() -> int:
    """Count the physical cores that this process can keep busy.

    A container's quota counts: threads beyond it are stopped for the rest of every period.
    """
    cores = allowed_cores()
    return max(1, min(cores, _quota(_read("/sys/fs/cgroup/cpu.max")) or cores))


def allowed_cores() -> int:
    """Count the physical cores that this process may run on.

    Two hyperthreads share one core's arithmetic, so a thread on each is no faster and less steady.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {
        _read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or cpu for cpu in allowed
    }
    return max(1, len(cores))


def _quota(cpu_max: str) -> int | None:
    """Whole processors in the text of cgroup v2's `cpu.max`; None if it sets no limit."""
    quota, _, period = cpu_max.partition(" ")
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return None
    return max(1, int(quota) // int(period))


def _cpuinfo(key: str) -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        field, _, value = line.partition(":")
        if field.strip() == key:
            return value.strip()
    return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
