"""The synthetic feed: its truth, its repeatability and the physics it promises."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from streamer.sources.phantom import Phantom, PhantomFrame
from streamer.sources.phantom import speckle as speckle_model
from streamer.sources.phantom.anatomy import Anatomy, Build
from streamer.sources.phantom.lesion import SEEN_FROM
from streamer.sources.phantom.scanner import Scanner, Settings
from streamer.sources.phantom.sweep import Content, Sweep
from streamer.sources.phantom.window import Pose


def live(seed: int, lesion: Content = "mixed", *, lift: bool = True, cut: bool = True) -> Phantom:
    """Open a feed of 320 x 240."""
    return Phantom(seed=seed, width=320, height=240, lesion=lesion, lift=lift, cut=cut)


def first(phantom: Phantom, label: str, *, after: int = 0, step: int = 20) -> int:
    """Index of a frame that shows a lesion of a kind, well inside the window."""
    for index in range(after, after + 5000, step):
        frame = phantom.frame(index)
        if frame.label == label and (label == "normal" or frame.instances[0].visible_fraction > 0.9):
            return index
    raise AssertionError(f"no {label} frame in 5000")


def extent(mask: NDArray[np.uint8]) -> tuple[int, int]:
    """Rows and columns that a mask spans."""
    rows, columns = np.nonzero(mask)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def inside_and_beside(frame: PhantomFrame) -> tuple[float, float]:
    """Mean gray inside the lesion, and beside it at the same depths."""
    rows, columns = np.nonzero(frame.lesion_mask)
    left, right = columns.min(), columns.max()
    band = slice(rows.min(), rows.max() + 1)
    beside = np.concatenate(
        [frame.pixels[band, max(left - 50, 12) : left - 8], frame.pixels[band, right + 8 : right + 50]],
        axis=1,
    )
    return float(frame.pixels[frame.lesion_mask > 0].mean()), float(beside.mean())


def behind_and_beside(frame: PhantomFrame) -> float:
    """How much brighter it is behind the middle of the lesion than beside that, at the same depths."""
    rows, columns = np.nonzero(frame.lesion_mask)
    left, right = int(columns.min()), int(columns.max())
    below = slice(int(rows.max()) + 4, int(rows.max()) + 30)
    third = (right - left) // 3
    behind = frame.pixels[below, left + third : right - third]
    beside = np.concatenate(
        [frame.pixels[below, max(left - 60, 12) : left - 12], frame.pixels[below, right + 12 : right + 60]],
        axis=1,
    )
    return float(behind.mean() - beside.mean())


def test_a_frame_is_the_same_in_whatever_order_frames_are_asked() -> None:
    forward, backward = live(5), live(5)
    indices = [0, 1, 40, 1300, 2000]
    ahead = [forward.frame(index) for index in indices]
    back = [backward.frame(index) for index in reversed(indices)][::-1]
    for one, other in zip(ahead, back, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert np.array_equal(one.lesion_mask, other.lesion_mask)
        assert np.array_equal(one.gland_mask, other.gland_mask)
        assert one[3:] == other[3:]


def test_seeds_give_different_feeds() -> None:
    one, other = (live(seed).frame(0).pixels.astype(float) for seed in (1, 2))
    assert np.abs(one - other).mean() > 5


def test_the_truth_of_a_frame_hangs_together() -> None:
    phantom = live(3)
    for index in range(0, 1800, 60):
        frame = phantom.frame(index)
        for plane in (frame.pixels, frame.lesion_mask, frame.gland_mask):
            assert plane.shape == (240, 320)
            assert plane.dtype == np.uint8
        assert set(np.unique(frame.lesion_mask)) <= {0, 255}
        assert set(np.unique(frame.gland_mask)) <= {0, 255}
        assert not np.any(frame.lesion_mask & frame.gland_mask)
        assert (frame.label == "normal") == (not frame.lesion_mask.any()) == (not frame.instances)
        assert {view.label for view in frame.instances} <= {frame.label}
        for view in frame.instances:
            column, row = view.centre_px
            assert frame.lesion_mask[round(row), round(column)] == 255
            assert 0 < view.visible_fraction < 1.3


@pytest.mark.parametrize("lesion", ["benign", "malignant", "none"])
def test_a_feed_shows_only_the_lesions_it_was_asked_for(lesion: str) -> None:
    phantom = Phantom(seed=2, width=160, height=120, lesion=lesion)  # type: ignore[arg-type]
    labels = {phantom.frame(index).label for index in range(0, 1500, 30)}
    assert labels == ({"normal"} if lesion == "none" else {"normal", lesion})


def test_a_mixed_feed_shows_a_lesion_about_60_percent_of_the_time() -> None:
    shown = []
    for seed in range(4):
        sweep = Sweep(
            (seed, 0),
            "mixed",
            fat_db=-10,
            depth_mm=(10, 20),
            half_width_mm=25,
            max_size_mm=14,
            first_number=0,
        )
        for time_s in np.arange(0, 300, 0.5):
            y_mm = sweep.pose(time_s).y_mm
            shown.append([each.kind for each in sweep.lesions(y_mm) if each.scale(y_mm) >= SEEN_FROM])
    assert 0.5 < np.mean([bool(kinds) for kinds in shown]) < 0.7
    assert 0.35 < np.mean(["benign" in kinds for kinds in shown if kinds]) < 0.65


def test_a_lesion_comes_and_goes_without_jumps() -> None:
    phantom = live(4, "benign", lift=False, cut=False)
    shown = [sum(view.visible_fraction for view in phantom.frame(index).instances) for index in range(220)]
    assert max(shown) > 0.8
    assert min(shown) == 0
    assert np.abs(np.diff(shown)).max() < 0.12


def test_a_lesion_keeps_its_number_while_it_is_in_view_and_no_other_has_it() -> None:
    phantom = Phantom(seed=6, width=96, height=96)
    runs: list[int] = []
    for index in range(0, 2400, 24):
        for view in phantom.frame(index).instances:
            if not runs or runs[-1] != view.id:
                runs.append(view.id)
    assert len(runs) > 3
    assert len(runs) == len(set(runs))


def test_no_two_successive_frames_are_alike_even_while_the_probe_pauses() -> None:
    phantom = live(1)
    previous = phantom.frame(0).pixels
    for index in range(1, 120):
        pixels = phantom.frame(index).pixels
        assert not np.array_equal(pixels, previous)
        previous = pixels


def test_a_probe_held_still_over_still_tissue_gives_new_noise_everywhere() -> None:
    rng = np.random.default_rng(0)
    settings = Settings(
        depth_mm=40,
        gain_db=-4,
        dynamic_range_db=60,
        focus_mm=18,
        axial_mm=0.3,
        lateral_mm=0.6,
        fall_db_per_cm=5,
        noise_db=46,
        gamma=1.3,
        smoothness=0.1,
        coupling=0.2,
        window=(0.1, 0.05, 0.9, 0.95),
    )
    scanner = Scanner(rng, settings, width=320, height=240)
    anatomy = Anatomy(
        rng, Build.random(rng, 40), width_mm=scanner.window.width_mm + 10, depth_mm=44, planes=4
    )
    one, other = (
        scanner.render(anatomy, [], Pose(0.0), np.random.default_rng(seed)).pixels.astype(int)
        for seed in (1, 2)
    )
    changed = (one != other)[14:226, 34:286]
    for block in np.array_split(changed, 4):
        assert block.mean() > 0.3
    assert not one[:, :30].any()
    assert np.abs(one - other).mean() < 5


def test_the_picture_moves_little_from_one_frame_to_the_next() -> None:
    phantom = live(1, lift=False, cut=False)
    frames = [phantom.frame(index).pixels.astype(float) for index in (100, 101, 400)]
    near, far = (np.abs(frames[0] - other).mean() for other in frames[1:])
    assert near < far / 2


def test_a_lifted_probe_shows_no_tissue_and_lands_in_another_place() -> None:
    phantom = live(8, cut=False)
    contact = [phantom.frame(index).contact for index in range(0, 1500, 15)]
    lifted = 15 * contact.index(False) + 15
    frame = phantom.frame(lifted)
    before, after = phantom.frame(lifted - 60), phantom.frame(lifted + 60)
    assert not frame.contact
    assert frame.label == "normal"
    assert not frame.lesion_mask.any()
    assert not frame.gland_mask.any()
    assert frame.pixels[120:].mean() < before.pixels[120:].mean() / 3
    assert frame.pixels[8:20].mean() > 2 * frame.pixels[120:].mean()
    assert before.contact
    assert after.contact
    assert after.scene == before.scene + 1


def test_without_lifts_and_cuts_the_scene_never_changes() -> None:
    phantom = Phantom(seed=8, lift=False, cut=False, width=64, height=64)
    frames = [phantom.frame(index) for index in range(0, 9000, 300)]
    assert {frame.scene for frame in frames} == {0}
    assert all(frame.contact for frame in frames)


def test_a_cut_changes_the_place_at_once() -> None:
    phantom = Phantom(seed=8, lift=False, width=160, height=120)
    scenes = [phantom.frame(index).scene for index in range(0, 2000, 50)]
    start = 50 * (next(n for n, scene in enumerate(scenes) if scene == 1) - 1)
    cut = next(index for index in range(start, start + 51) if phantom.frame(index).scene == 1)
    two, before, after = (phantom.frame(index).pixels.astype(float) for index in (cut - 2, cut - 1, cut))
    assert np.abs(after - before).mean() > 2 * np.abs(before - two).mean()


@pytest.fixture(scope="module")
def views() -> dict[str, list[PhantomFrame]]:
    """Frames with a lesion near its largest section, by kind."""
    kinds: tuple[Content, ...] = ("benign", "malignant")
    shown: dict[str, list[PhantomFrame]] = {kind: [] for kind in kinds}
    for kind in kinds:
        for seed in range(6):
            phantom = live(seed, kind)
            shown[kind].append(phantom.frame(first(phantom, kind)))
    return shown


def test_lesions_are_darker_than_what_lies_beside_them_and_malignant_ones_more_so(
    views: dict[str, list[PhantomFrame]],
) -> None:
    contrast = {}
    for kind, frames in views.items():
        pairs = [inside_and_beside(frame) for frame in frames]
        assert all(inside < beside for inside, beside in pairs)
        contrast[kind] = np.mean([inside / beside for inside, beside in pairs])
    assert contrast["malignant"] < contrast["benign"]


def test_benign_lesions_enhance_what_lies_behind_and_malignant_ones_shadow_it(
    views: dict[str, list[PhantomFrame]],
) -> None:
    gain = {kind: np.median([behind_and_beside(frame) for frame in frames]) for kind, frames in views.items()}
    assert gain["benign"] > 3
    assert gain["malignant"] < -10


def test_benign_lesions_lie_flat_and_malignant_ones_stand_upright(
    views: dict[str, list[PhantomFrame]],
) -> None:
    ratio = {}
    for kind, frames in views.items():
        extents = [extent(frame.lesion_mask) for frame in frames]
        ratio[kind] = np.median([rows / columns for rows, columns in extents])
    assert ratio["benign"] < 0.8
    assert ratio["malignant"] > 1.05


def test_the_outline_of_a_lesion_is_where_the_picture_changes() -> None:
    offsets = []
    for seed in range(12):
        frame = Phantom.still(seed + 20, width=560, height=448, label="benign")
        inside = (frame.lesion_mask > 0).astype(np.uint8)
        depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(
            1 - inside, cv2.DIST_L2, 5
        )
        steps = np.arange(-8, 9)
        profile = np.array([frame.pixels[np.abs(depth - step) <= 1.5].mean() for step in steps])
        offsets.append(float(steps[1:][np.argmin(np.convolve(np.diff(profile), [1, 1, 1], "same"))]))
    assert abs(float(np.median(offsets))) <= 2.5


def test_speckle_is_fully_developed_before_compression() -> None:
    field = speckle_model.SpeckleField(
        np.random.default_rng(0),
        shape=(200, 300),
        pitch_mm=(0.1, 0.2),
        axial_mm=0.3,
        lateral_mm=np.full(220, 0.7),
        margin=10,
    )
    # Between two elevations as well as on one: blending must not change the statistics.
    for y_mm in (0.0, 0.4, 0.75, 2.0):
        looks = field.at(y_mm, 17)
        for look in (looks[..., :2], looks[..., 2:]):
            envelope = np.sqrt(speckle_model.power(np.ascontiguousarray(look)))
            assert envelope.mean() / envelope.std() == pytest.approx(1.91, abs=0.08)
            assert np.mean(envelope**2) == pytest.approx(1, abs=0.1)


def test_speckle_is_finer_across_the_beam_where_it_is_focused() -> None:
    lateral_mm = np.where(np.arange(220) < 110, 0.5, 1.5)
    field = speckle_model.SpeckleField(
        np.random.default_rng(0),
        shape=(200, 300),
        pitch_mm=(0.1, 0.1),
        axial_mm=0.2,
        lateral_mm=lateral_mm,
        margin=10,
    )
    echo = field.at(0.0, 0)[..., 0]

    def correlation(rows: slice) -> float:
        part = echo[rows].astype(float)
        return float(np.mean(part[:, 5:] * part[:, :-5]) / np.mean(part * part))

    assert correlation(slice(0, 90)) < correlation(slice(130, 220)) - 0.3


def test_speckle_decorrelates_slowly_as_the_probe_moves_on() -> None:
    field = speckle_model.SpeckleField(
        np.random.default_rng(0),
        shape=(200, 300),
        pitch_mm=(0.1, 0.2),
        axial_mm=0.3,
        lateral_mm=np.full(220, 0.7),
        margin=10,
    )

    def likeness(y_mm: float) -> float:
        return float(np.corrcoef(field.at(0.0, 0).ravel(), field.at(y_mm, 0).ravel())[0, 1])

    assert likeness(0.15) > 0.95
    assert 0.5 < likeness(0.75) < 0.9
    assert abs(likeness(6.0)) < 0.15


@pytest.mark.parametrize("label", ["normal", "benign", "malignant"])
def test_a_still_shows_what_was_asked_for(label: str) -> None:
    for seed in range(5):
        frame = Phantom.still(seed, width=256, height=192, label=label)  # type: ignore[arg-type]
        assert frame.label == label
        assert frame.pixels.shape == frame.lesion_mask.shape == frame.gland_mask.shape == (192, 256)
        assert frame.lesion_mask.any() == (label != "normal")
        assert frame.gland_mask.any()
        assert set(np.unique(frame.lesion_mask)) <= {0, 255}


def test_stills_are_repeatable_and_differ_in_depth_and_gain() -> None:
    stills = [Phantom.still(seed, width=128, height=128, label="benign") for seed in range(8)]
    again = Phantom.still(3, width=128, height=128, label="benign")
    assert np.array_equal(stills[3].pixels, again.pixels)
    assert len({still.spacing_mm for still in stills}) == len(stills)
    assert np.ptp([still.pixels.mean() for still in stills]) > 20


@pytest.mark.parametrize(
    "wrong",
    [{"lesion": "cyst"}, {"fps": 0.0}, {"width": 8}, {"height": 8}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_phantom_refuses_what_it_cannot_show(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="lesion is one of|64 x 64 or larger"):
        Phantom(**wrong)  # type: ignore[arg-type]


def test_a_phantom_has_no_frames_before_the_first() -> None:
    with pytest.raises(ValueError, match="indices start at 0"):
        Phantom(width=64, height=64).frame(-1)
