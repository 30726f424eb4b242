"""For all tests of training."""

import ctypes
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def give_memory_back() -> Iterator[None]:
    """A run tells glibc to keep what it frees; later tests in this process need it for other things."""
    yield
    if sys.platform.startswith("linux") and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-4, 65536)  # M_MMAP_MAX
        libc.mallopt(-1, 128 * 1024)  # M_TRIM_THRESHOLD
        libc.malloc_trim(0)
