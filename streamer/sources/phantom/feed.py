"""The phantom: a live breast-ultrasound feed, frame by frame, with its truth."""

from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.sources.phantom.anatomy import Anatomy, Build
from streamer.sources.phantom.lesion import Lesion, random_lesion
from streamer.sources.phantom.scanner import LesionView, Picture, Scanner, Settings
from streamer.sources.phantom.sweep import Content, Sweep, Timeline, settle
from streamer.sources.phantom.window import Pose

MIN_SIDE = 64
"""Smaller pictures show no tissue worth the name."""
Label = Literal["normal", "benign", "malignant"]
# Spare tissue beside and below the scan window, for drift, breathing and compression.
_SPARE_X_MM = 12.0
_SPARE_Z_MM = 4.0
# A probe lands and leaves within this time.
_LIFTING_S = 0.12


class PhantomFrame(NamedTuple):
    """One frame and everything that is true of it."""

    pixels: NDArray[np.uint8]
    """H x W gray."""
    lesion_mask: NDArray[np.uint8]
    """H x W, 255 inside every lesion in view, else 0."""
    gland_mask: NDArray[np.uint8]
    """H x W, 255 in the glandular layer outside lesions, else 0."""
    label: Label
    """What is in view: "normal" where no lesion is visible, "malignant" where any is."""
    spacing_mm: tuple[float, float]
    """Size of one pixel as (row, column) in mm."""
    contact: bool
    """False while the probe is lifted."""
    instances: tuple[LesionView, ...]
    """The lesions in view."""
    scene: int
    """Changes when the view cuts to another place."""


class _Place(NamedTuple):
    anatomy: Anatomy
    sweep: Sweep


class Phantom:
    """A synthetic feed: the same seed and index always give the same frame, in whatever order they are asked.

    It shows that software works. It says nothing about accuracy on people.

    :param lesion: which lesions the probe meets; "none" for normal tissue only.
    :param lift: whether the probe is lifted off about every 30 to 45 s.
    :param cut: whether the view sometimes cuts to another place.
    :raises ValueError: if a value is not allowed.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        width: int = 640,
        height: int = 480,
        fps: float = 30.0,
        lesion: Content = "mixed",
        lift: bool = True,
        cut: bool = True,
    ) -> None:
        if lesion not in get_args(Content):
            raise ValueError(f"lesion is one of {', '.join(get_args(Content))}, not {lesion!r}")
        if not (fps > 0 and min(width, height) >= MIN_SIDE):
            raise ValueError(
                f"a phantom is {MIN_SIDE} x {MIN_SIDE} or larger, at more than 0 frames per second"
            )
        self.seed, self.fps, self.lesion = seed, fps, lesion
        self.width, self.height = width, height
        rng = np.random.default_rng([seed, 5])
        self._scanner = Scanner(rng, _live_settings(rng), width=width, height=height)
        self._timeline = Timeline(seed, lift=lift, cut=cut)
        self._place = lru_cache(maxsize=2)(self._make_place)

    def frame(self, index: int) -> PhantomFrame:
        """Render the frame at an index.

        :param index: 0 or more; the frame shows the instant index / fps.
        :raises ValueError: if the index is negative.
        """
        if index < 0:
            raise ValueError(f"a phantom has no frame {index}: indices start at 0")
        time_s = index / self.fps
        stay = self._timeline.at(time_s)
        place = self._place(stay.scene)
        pose = place.sweep.pose(time_s - stay.start_s)
        lifted = min(1.0, 0.4 + (time_s - stay.lift_s) / _LIFTING_S) if time_s >= stay.lift_s else 0.0
        pose = pose._replace(lifted=lifted)
        picture = self._scanner.render(
            place.anatomy, place.sweep.lesions(pose.y_mm), pose, np.random.default_rng([self.seed, 7, index])
        )
        return _with_truth(picture, self._scanner, contact=lifted == 0, scene=stay.scene)

    @staticmethod
    def still(seed: int, *, width: int, height: int, label: Label) -> PhantomFrame:
        """Render an independent picture: its own anatomy, instrument settings, lesion and speckle.

        :param label: what must be in view.
        :return: a frame of that label; `spacing_mm` tells its depth of view.
        """
        rng = np.random.default_rng([seed, 3])
        # Rendered at the size of a scanner's screen and reduced, as a data set's pictures are.
        enlarge = max(1.0, 440 / height)
        full = round(width * enlarge), round(height * enlarge)
        scanner = Scanner(
            rng, _random_settings(rng), width=full[0], height=full[1], period=_fast_length(full[0] // 2 + 80)
        )
        settings = scanner.settings
        build = Build.random(rng, settings.depth_mm)
        anatomy = _anatomy(rng, build, scanner, planes=3)
        lesions: list[Lesion] = []
        y_mm = 0.25
        if label != "normal":
            size = min(rng.uniform(5, 24), 0.5 * settings.depth_mm, 0.6 * scanner.window.width_mm)
            centre = (
                scanner.window.width_mm * rng.uniform(-0.36, 0.36),
                max(size * 0.4 + 3, rng.uniform(build.gland_top_mm, build.gland_bottom_mm - size * 0.3)),
                y_mm,
            )
            drawn = random_lesion(
                rng, label, number=0, centre_mm=centre, size_mm=size, fat_db=build.fat_db, varied=True
            )
            lesions = [settle(drawn)]
            y_mm += drawn.radius_mm[2] * rng.uniform(-0.6, 0.6)
        pose = Pose(y_mm, 0.0, rng.uniform(-1, 1), rng.uniform(-0.02, 0.02))
        picture = scanner.render(anatomy, lesions, pose, rng)
        return _with_truth(picture, scanner, contact=True, scene=0, size=(width, height))

    def _make_place(self, scene: int) -> _Place:
        rng = np.random.default_rng([self.seed, 13, scene])
        settings = self._scanner.settings
        build = Build.random(rng, settings.depth_mm)
        sweep = Sweep(
            (self.seed, scene),
            self.lesion,
            fat_db=build.fat_db,
            depth_mm=(build.gland_top_mm + 3, build.gland_bottom_mm - 2),
            half_width_mm=self._scanner.window.width_mm / 2,
            max_size_mm=0.36 * settings.depth_mm,
            # A stay between two lifts meets far fewer: numbers stay unique in a feed.
            first_number=1000 * scene,
        )
        return _Place(_anatomy(rng, build, self._scanner), sweep)


def _anatomy(rng: np.random.Generator, build: Build, scanner: Scanner, planes: int = 48) -> Anatomy:
    return Anatomy(
        rng,
        build,
        width_mm=scanner.window.width_mm + _SPARE_X_MM,
        depth_mm=scanner.settings.depth_mm + _SPARE_Z_MM,
        planes=planes,
    )


def _with_truth(
    picture: Picture, scanner: Scanner, *, contact: bool, scene: int, size: tuple[int, int] | None = None
) -> PhantomFrame:
    kinds = {view.label for view in picture.lesions}
    label: Label = "malignant" if "malignant" in kinds else "benign" if "benign" in kinds else "normal"
    pixels, lesion, gland, views = picture
    spacing = scanner.window.mm_per_px, scanner.window.mm_per_px
    if size is not None and size != scanner.size:
        fx, fy = size[0] / scanner.size[0], size[1] / scanner.size[1]
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        lesion, gland = (
            np.where(np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA)) > 127, 255, 0).astype(
                np.uint8
            )
            for mask in (lesion, gland)
        )
        views = tuple(
            view._replace(centre_px=(view.centre_px[0] * fx, view.centre_px[1] * fy)) for view in views
        )
        spacing = spacing[0] / fy, spacing[1] / fx
    return PhantomFrame(pixels, lesion, gland, label, spacing, contact, views, scene)


def _fast_length(columns: int) -> int:
    """A length that a Fourier transform is quick at."""
    return cv2.getOptimalDFTSize(columns)


def _live_settings(rng: np.random.Generator) -> Settings:
    return Settings(
        depth_mm=rng.uniform(36, 44),
        gain_db=rng.uniform(-5, -2),
        dynamic_range_db=rng.uniform(58, 66),
        focus_mm=rng.uniform(15, 22),
        axial_mm=rng.uniform(0.24, 0.32),
        lateral_mm=rng.uniform(0.5, 0.65),
        fall_db_per_cm=rng.uniform(5, 7),
        noise_db=rng.uniform(45, 49),
        gamma=rng.uniform(1.25, 1.45),
        smoothness=rng.uniform(0.08, 0.14),
        coupling=rng.uniform(0.1, 0.4),
        window=(0.03, 0.025, 0.97, 0.985),
    )


def _random_settings(rng: np.random.Generator) -> Settings:
    border = rng.random() < 0.25
    edges = rng.uniform(0, 0.06, 4) if border else np.zeros(4)
    return Settings(
        depth_mm=rng.uniform(26, 52),
        gain_db=rng.uniform(-8, 5),
        dynamic_range_db=rng.uniform(50, 72),
        focus_mm=rng.uniform(10, 28),
        axial_mm=rng.uniform(0.22, 0.42),
        lateral_mm=rng.uniform(0.4, 0.9),
        fall_db_per_cm=rng.uniform(2.5, 9.5),
        noise_db=rng.uniform(38, 52),
        gamma=rng.uniform(1.1, 1.7),
        smoothness=rng.uniform(0.03, 0.25),
        coupling=rng.uniform(0, 0.8),
        window=(float(edges[0]), float(edges[1]), 1 - float(edges[2]), 1 - float(edges[3])),
    )
