"""A small real publisher of drawn pictures, whose frame number can be read back from their pixels."""

import math
import sys
import threading
import time
from collections.abc import Sequence
from functools import cache
from typing import Self

import cv2
import numpy as np
import zmq

from streamer.analysis import Analysis, Classes, Event, Latency, Lesion, Mask, Model, Region, Size
from streamer.frame import Clock, FeedState, Pixels
from streamer.wire import Channel, encode_analysis, encode_event, topic

WIDTH, HEIGHT = 640, 480
OFFSET = (40, 24)
"""Where the region lies in the source's frame."""
MASK_SIDE = 128
CODE_BITS = 16
CODE_SIDE = 20
CODE_AT = (140, 440)
"""The first block of the frame number, in pixels of the region."""
NAMES = ["normal", "benign", "malignant"]
PROBABILITIES = {"normal": [0.9, 0.07, 0.03], "benign": [0.04, 0.87, 0.09], "malignant": [0.02, 0.07, 0.91]}


@cache
def tissue() -> list[Pixels]:
    """A few pictures of layered speckle, H x W."""
    rng = np.random.default_rng(3)
    depth = np.arange(HEIGHT, dtype=np.float32)[:, None]
    across = np.arange(WIDTH, dtype=np.float32)[None, :]
    layers = 70 + 34 * np.sin(depth / 31 + 5 * np.sin(across / 190)) + 18 * np.sin(across / 57 + depth / 44)
    layers = layers * np.exp(-depth / 700) * (1 + 1.2 * np.exp(-depth / 18))
    pictures = []
    for _ in range(12):
        grain = rng.rayleigh(0.8, (HEIGHT, WIDTH)).astype(np.float32)
        grain = cv2.GaussianBlur(grain, (0, 0), sigmaX=1.9, sigmaY=0.9)
        pictures.append(np.clip(layers * grain**1.4, 0, 255).astype(np.uint8))
    return pictures


def lesion_centre(number: int, *, jumping: bool) -> tuple[float, float]:
    """Where the lesion of a frame lies, in pixels of the region; a jumping one changes sides every frame."""
    if jumping:
        return (180.0, 440.0)[number % 2], 225.0
    return 330 + 120 * math.sin(number / 60), 225 + 18 * math.sin(number / 23)


def lesion_mask(centre: tuple[float, float], shape: str) -> Pixels:
    """The mask of a lesion, over the region at its full size."""
    x, y = centre
    turn = np.linspace(0, 2 * math.pi, 72, endpoint=False)
    if shape == "malignant":
        radius = 62 * (1 + 0.13 * np.sin(7 * turn) + 0.09 * np.sin(11 * turn + 1))
        points = np.stack([x + radius * np.cos(turn) * 0.85, y + radius * np.sin(turn) * 1.15], axis=1)
    else:
        points = np.stack([x + 92 * np.cos(turn), y + 50 * np.sin(turn)], axis=1)
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    cv2.fillPoly(mask, [points.round().astype(np.int32)], 255)
    return mask


def draw(number: int, shape: str, *, jumping: bool = False) -> tuple[bytes, Pixels]:
    """Return the JPEG of a frame and its lesion mask."""
    pictures = tissue()
    pixels = pictures[number % len(pictures)].astype(np.float32)
    centre = lesion_centre(number, jumping=jumping)
    mask = lesion_mask(centre, shape)
    soft = cv2.GaussianBlur(mask, (0, 0), 4).astype(np.float32) / 255
    pixels *= 1 - 0.78 * soft
    behind = np.zeros_like(pixels)
    behind[285:, int(centre[0] - 50) : int(centre[0] + 50)] = 1
    pixels *= 1 + (-0.5 if shape == "malignant" else 0.45) * cv2.GaussianBlur(behind, (0, 0), 12)
    picture = np.clip(pixels, 0, 255).astype(np.uint8)
    for bit in range(CODE_BITS):
        left, top = CODE_AT[0] + bit * CODE_SIDE, CODE_AT[1]
        picture[top : top + CODE_SIDE, left : left + CODE_SIDE] = 255 if number >> bit & 1 else 0
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert done
    return data.tobytes(), mask


class DrawnFeed:
    """Publishes results, and a heartbeat per source, while its `with` block runs; attributes change it."""

    def __init__(
        self,
        sources: Sequence[str] = ("left",),
        *,
        port: int = 0,
        rate_hz: float = 20,
        publisher: str = "first",
        channel: Channel = "preview",
        spacing_mm: tuple[float, float] | None = (0.1, 0.1),
    ) -> None:
        self.sources = list(sources)
        self.state = FeedState.LIVE
        self.label = "malignant"
        self.stable = True
        self.uncertain = False
        self.pictures = True
        self.age_s = 0.02
        self.vary = False
        self.jumping = False
        self.publisher = publisher
        self._channel = channel
        self.spacing_mm = spacing_mm
        self.number = 0
        self._rate_hz = rate_hz
        self._socket = zmq.Context.instance().socket(zmq.PUB)
        # As the daemon has it. With 0, libzmq 4.3 aborts the process where a subscriber leaves amid a message
        # just then (session_base.cpp, clean_pipes).
        self._socket.setsockopt(zmq.LINGER, 200)
        self._socket.setsockopt(zmq.SNDHWM, 30)
        self._bind(f"tcp://127.0.0.1:{port or '*'}")
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)

    def _bind(self, address: str) -> None:
        # ZeroMQ closes sockets in the background: a port that was just given up may be taken a moment longer.
        deadline = time.monotonic() + 10
        while True:
            try:
                self._socket.bind(address)
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE or time.monotonic() > deadline:
                    self._socket.close()
                    raise
                time.sleep(0.02)
            else:
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Fall silent, as a daemon that was killed."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._socket.close()

    def _publish(self) -> None:
        events, beat_due = 0, 0.0
        while not self._stop.is_set():
            if time.monotonic() >= beat_due:
                beat_due = time.monotonic() + 0.25
                events += 1
                for source in self.sources:
                    self._socket.send_multipart(
                        [topic(source, "event"), encode_event(self._event(source, events))]
                    )
            if self.pictures:
                self.number += 1
                if self.vary:
                    self.label = ("benign", "malignant")[self.number // 150 % 2]
                    self.stable = self.number % 150 > 25
                for i, source in enumerate(self.sources):
                    self._socket.send_multipart(self._result(source, self.number, i))
            self._stop.wait(1 / self._rate_hz)

    def _event(self, source: str, seq: int) -> Event:
        return Event(
            publisher=self.publisher,
            source=source,
            seq=seq,
            kind="heartbeat",
            state=self.state,
            at=time.time_ns(),
            monotonic=time.monotonic_ns(),
            captured=self.number + 7,
            analyzed=self.number,
            dropped={"superseded": 6, "failed": 1},
        )

    def _result(self, source: str, number: int, which: int) -> list[bytes]:
        label = self.label if which % 2 == 0 else "benign"
        live = self.state is FeedState.LIVE
        picture, mask = draw(number, label, jumping=self.jumping)
        small = cv2.resize(
            cv2.GaussianBlur(mask, (0, 0), 5), (MASK_SIDE, MASK_SIDE), interpolation=cv2.INTER_AREA
        )
        now = time.monotonic_ns()
        stages = {
            "capture": 0.0021,
            "wait": 0.0008,
            "resize": 0.0004,
            "inference": 0.0071,
            "smoothing": 0.0016,
        }
        wobble = 0.03 * math.sin(number / 9)
        raw = [min(1.0, max(0.0, p + wobble * (1 if p < 0.5 else -1))) for p in PROBABILITIES[label]]
        total = sum(raw)
        raw = [p / total for p in raw]
        analysis = Analysis(
            publisher=self.publisher,
            source=source,
            seq=number,
            frame_id=number,
            state=self.state,
            captured_at=time.time_ns(),
            captured_monotonic=now - int(self.age_s * 1e9),
            clock=Clock.RECEIVE,
            published_monotonic=now,
            age=self.age_s,
            media_time=None,
            frame=Size(WIDTH + 2 * OFFSET[0], HEIGHT + 2 * OFFSET[1]),
            region=Region(OFFSET[0], OFFSET[1], WIDTH, HEIGHT),
            pixel_spacing_mm=self.spacing_mm,
            classes=Classes(NAMES, raw, raw, label, self.stable, raw[2], self.uncertain) if live else None,
            lesions=[self._lesion(mask)] if live and label != "normal" else [],
            mask=Mask(MASK_SIDE, MASK_SIDE) if live else None,
            view_change="cut" if number % 150 == 1 else None,
            latency=Latency(total=sum(stages.values()) + 0.0009, stages={**stages, "lesions": 0.0009}),
            dropped={},
            model=Model("phantom-mtl-oca", "1.0.0", "openvino", "bf16", "0" * 64),
        )
        return [
            topic(source, self._channel),
            encode_analysis(analysis),
            small.tobytes() if live else b"",
            picture,
        ]

    def _lesion(self, mask: Pixels) -> Lesion:
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        points = contours[0][:, 0, :].astype(float) + OFFSET
        x, y, width, height = cv2.boundingRect(contours[0])
        long, short = max(width, height), min(width, height)
        left, middle = float(x + OFFSET[0]), y + OFFSET[1] + height / 2
        mm = self.spacing_mm[0] if self.spacing_mm else None
        return Lesion(
            track=1,
            contour=[(float(px), float(py)) for px, py in points],
            box=(x + OFFSET[0], y + OFFSET[1], width, height),
            area_px=float(cv2.contourArea(contours[0])),
            longest_px=long,
            perpendicular_px=short,
            probability=0.93,
            area_mm2=None if mm is None else cv2.contourArea(contours[0]) * mm * mm,
            longest_mm=None if mm is None else long * mm,
            perpendicular_mm=None if mm is None else short * mm,
            longest_ends=((left, middle), (left + width, middle)),
        )


def main() -> None:
    """Publish until killed: `python -m tests.streamer.view.drawn_feed PORT [SOURCE...]`."""
    with DrawnFeed(sys.argv[2:] or ["left"], port=int(sys.argv[1]), rate_hz=30) as feed:
        feed.vary = True
        print(feed.address, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
