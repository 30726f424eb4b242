"""A web page that shows a daemon's results: a client process of its own, any number of which may run."""

from streamer.view.server import Viewer, ViewerError, serve

__all__ = ["Viewer", "ViewerError", "serve"]
