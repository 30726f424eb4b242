"""Percentiles, and what machine and versions they were measured on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

PERCENTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "p999": 99.9, "max": 100.0}
"""A mean hides what an operator notices."""


def percentiles(milliseconds: ArrayLike) -> dict[str, float]:
    """Summarise durations as p50, p95, p99, p999 and max, in the unit given.

    :raises ValueError: if there is nothing to summarise.
    """
    values = np.asarray(milliseconds, dtype=np.float64)
    if values.size == 0:
        raise ValueError("no durations were measured")
    return {name: round(float(np.percentile(values, q)), 4) for name, q in PERCENTILES.items()}


def machine() -> dict[str, Any]:
    """Describe the processor, its cores and memory, and the system."""
    from models.runtimes import cpu

    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu.name(),
        "instructions": cpu.notable_flags(),
        "cores": cpu.usable_cores(),
        "memory_gib": round(pages * page / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Name the versions of everything that a frame passes through."""
    found = {"python": platform.python_version()}
    for package in ("sonostream", "numpy", "opencv-python", "av", "pyzmq", "openvino", "onnxruntime"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
