"""A synthetic breast-ultrasound feed with exact ground truth."""

from streamer.sources.phantom.feed import Phantom, PhantomFrame
from streamer.sources.phantom.scanner import LesionView
from streamer.sources.phantom.source import PhantomSource, open_phantom

__all__ = ["LesionView", "Phantom", "PhantomFrame", "PhantomSource", "open_phantom"]
