"""Turn answers to single frames into something a person can watch, without hiding a change.

Time constants are seconds and weights come from the time that really passed between two frames, so 15 and
60 frames a second feel the same. `docs/SMOOTHING.md` says what each part does and how well.
"""

from streamer.smoothing.classes import Evidence, Verdict
from streamer.smoothing.settings import SmoothingSettings
from streamer.smoothing.smoother import Smoothed, Smoother
from streamer.smoothing.view import FORGETS, Floats, Memory, ViewChange

__all__ = [
    "FORGETS",
    "Evidence",
    "Floats",
    "Memory",
    "Smoothed",
    "Smoother",
    "SmoothingSettings",
    "Verdict",
    "ViewChange",
]
