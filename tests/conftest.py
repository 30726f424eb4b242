"""For all tests."""

import streamer  # noqa: F401 - before any test imports OpenCV: see streamer/__init__.py
