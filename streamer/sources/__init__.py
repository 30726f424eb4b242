"""Where frames come from: one file per kind of feed, opened by URI.

A source is an iterator of frames that one thread reads. It never reconnects by itself: it raises
`SourceLost`, and the feed that owns it decides when to open it again.
"""

from streamer.sources.base import (
    Captured,
    Source,
    SourceError,
    SourceInvalidFrame,
    SourceLost,
    SourceOptions,
    SourceUnavailable,
)
from streamer.sources.registry import open_source, parse_uri

__all__ = [
    "Captured",
    "Source",
    "SourceError",
    "SourceInvalidFrame",
    "SourceLost",
    "SourceOptions",
    "SourceUnavailable",
    "open_source",
    "parse_uri",
]
