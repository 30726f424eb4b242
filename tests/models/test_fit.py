"""Pictures brought to the model's size."""

import cv2
import numpy as np
import pytest

from models.fit import Fitter


@pytest.mark.parametrize(
    "size", [(800, 600), (1920, 1080), (801, 603), (130, 129), (64, 48), (128, 128), (400, 100)]
)
def test_fitting_is_close_to_the_mean_over_each_cells_area(size: tuple[int, int]) -> None:
    width, height = size
    field = np.random.default_rng(0).normal(size=(height, width)).astype(np.float32)
    # Structures two cells wide: what the model can see at all.
    smooth = cv2.GaussianBlur(field, (0, 0), sigmaX=width / 64, sigmaY=height / 64)
    picture = np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)
    out = np.empty((128, 128, 1), np.uint8)

    Fitter(128, 128).fit(picture, out)

    larger = cv2.INTER_LINEAR if width < 128 else cv2.INTER_AREA
    expected = cv2.resize(picture, (128, 128), interpolation=larger)
    assert np.abs(out[:, :, 0].astype(int) - expected).mean() < 4


def test_speckle_is_averaged_and_not_sampled() -> None:
    speckle = np.random.default_rng(0).integers(0, 255, (1024, 1024), dtype=np.uint8)
    out = np.empty((128, 128, 1), np.uint8)

    Fitter(128, 128).fit(speckle, out)

    assert out.std() < 20  # sampled bilinearly in one step it would be 37 and more


def test_what_is_in_the_middle_stays_there_for_odd_sizes() -> None:
    picture = np.zeros((601, 799), np.uint8)
    picture[280:321, 379:420] = 255
    out = np.empty((128, 128, 1), np.uint8)

    Fitter(128, 128).fit(picture, out)

    rows, columns = np.indices((128, 128)) + 0.5
    weight = out[:, :, 0].astype(float)
    assert abs(float((rows * weight).sum() / weight.sum()) - 64) < 0.15
    assert abs(float((columns * weight).sum() / weight.sum()) - 64) < 0.15


def test_colour_is_turned_to_gray_and_gray_is_repeated() -> None:
    red = np.zeros((300, 300, 3), np.uint8)
    red[..., 0] = 200
    gray = np.empty((64, 64, 1), np.uint8)
    colour = np.empty((64, 64, 3), np.uint8)

    Fitter(64, 64).fit(red, gray)
    Fitter(64, 64).fit(np.full((300, 300), 90, np.uint8), colour)

    assert set(np.unique(gray)) == {60}  # 0.299 of 200
    assert set(np.unique(colour)) == {90}
