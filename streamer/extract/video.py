"""The overlay as a video that plays everywhere: H.264 in MP4, with the recording's own timing."""

from fractions import Fraction
from pathlib import Path

import av

from streamer.extract.frames import USE, ExtractError, Shown
from streamer.extract.overlay import canvas_size, draw


class OverlayVideo:
    """Writes frames with their contours and results burned in."""

    def __init__(self, path: Path) -> None:
        """Begin the file.

        :raises ExtractError: if PyAV has no H.264 encoder.
        """
        if "libx264" not in av.codecs_available:
            raise ExtractError("this build of PyAV writes no H.264: pip install --only-binary av av")
        self._output = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._output.metadata.update({"title": "sonostream", "comment": USE})
        self._stream: av.VideoStream | None = None
        self._size = (0, 0)
        self._pts = -1

    def add(self, shown: Shown) -> None:
        """Draw and write the next frame."""
        if self._stream is None:
            self._size = canvas_size(shown.pixels, shown.analysis)
            self._stream = self._open_stream()
        frame = av.VideoFrame.from_ndarray(draw(shown, self._size), format="rgb24")
        # Two frames within a millisecond still are two.
        self._pts = max(self._pts + 1, round(shown.time_s * 1000))
        frame.pts = self._pts
        frame.time_base = Fraction(1, 1000)
        self._output.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file."""
        if self._stream is not None:
            self._output.mux(self._stream.encode(None))
        self._output.close()

    def _open_stream(self) -> av.VideoStream:
        stream = self._output.add_stream("libx264", rate=30, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height = self._size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.time_base = Fraction(1, 1000)
        return stream
