"""Recorded studies for the benchmarks: phantom frames as a video file, or as a recording of our own."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av

from benchmarks.daemon import BenchError, free_port
from streamer.frame import Pixels

_RECORD_WITHIN_S = 300.0


def write_video(pictures: list[Pixels], path: Path, *, fps: int) -> None:
    """Encode gray pictures, H x W each, as H.264 in MP4, as a scanner's export has it."""
    height, width = pictures[0].shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_recording(video: Path, path: Path, *, artifact: str) -> None:
    """Record a video's results and pictures in MCAP, with the daemon, in real time: frames keep their times.

    :raises BenchError: if the daemon cannot.
    """
    command = [sys.executable, "-m", "streamer", "run", str(video), "--log.level=error"]
    command += [f"--record.path={path}", f"--model.artifact={artifact}", "--http.port=0"]
    command += [f"--publish.bind=tcp://127.0.0.1:{free_port()}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_RECORD_WITHIN_S, env=os.environ, check=False
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{video} was not recorded within {_RECORD_WITHIN_S:g} s") from None
    if done.returncode:
        raise BenchError(f"{video} was not recorded: {done.stderr.strip()}")
