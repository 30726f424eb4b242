"""For all tests."""

import os
import signal

import pytest

import streamer  # noqa: F401 - before any test imports OpenCV: see streamer/__init__.py

HEAVY = "SONOSTREAM_HEAVY_TESTS"

# A shell that starts the tests in the background has Ctrl-C ignored, and every program that they start would
# inherit that: none of them could be ended as its user ends it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what takes too long for every change: `make test-heavy` runs it."""
    if os.environ.get(HEAVY) == "1":
        return
    skip = pytest.mark.skip(reason=f"takes long: set {HEAVY}=1")
    for item in items:
        if item.get_closest_marker("heavy") is not None:
            item.add_marker(skip)
