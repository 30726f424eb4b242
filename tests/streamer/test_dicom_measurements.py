"""Sizes in millimetres, from a DICOM file's calibration to the result that is recorded."""

import math
import subprocess
from typing import Any

import cv2
import numpy as np
import pytest

from tests.models import tiny
from tests.streamer.running import sonostream
from tests.streamer.sources.test_dicom import dataset, region, save

pytest.importorskip("mcap", reason="needs pip install 'sonostream[formats]'")

from streamer.recording import Recorded, read_recording

DEGREES = tuple(range(0, 180, 15))
LONGEST_MM, ACROSS_MM = 20.0, 12.0
ROW_MM, COLUMN_MM = 0.06, 0.1
LEFT, TOP, WIDTH, HEIGHT = 60, 20, 512, 480
CENTRE_MM = (24.0, 14.6)
"""Of the ellipse, right of and below the region's corner."""
FINER = 4


def frame(degrees: float) -> np.ndarray[Any, Any]:
    """A dark ellipse on a bright screen, drawn in millimetres; pixels are not square."""
    rows, columns = np.indices((HEIGHT * FINER, WIDTH * FINER)) + 0.5
    x = columns / FINER * COLUMN_MM - CENTRE_MM[0]
    y = rows / FINER * ROW_MM - CENTRE_MM[1]
    angle = math.radians(degrees)
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    inside = np.hypot(u / (LONGEST_MM / 2), v / (ACROSS_MM / 2)) < 1
    picture = cv2.resize(
        np.where(inside, 0, 255).astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA
    )
    screen = np.full((540, 640), 255, np.uint8)
    screen[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = picture
    return screen


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Recorded]:
    """What a daemon says about a clip that turns the ellipse around, frame by frame."""
    folder = tmp_path_factory.mktemp("measured")
    made = dataset(np.stack([frame(degrees) for degrees in DEGREES]), FrameTime=40)
    made.SequenceOfUltrasoundRegions = [
        region(LEFT, TOP, LEFT + WIDTH - 1, TOP + HEIGHT - 1,
               PhysicalDeltaX=COLUMN_MM / 10, PhysicalDeltaY=ROW_MM / 10),
    ]  # fmt: skip
    save(made, folder / "study.dcm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "HEIGHT", 128)
        patch.setattr(tiny, "WIDTH", 128)
        model = tiny.save(tiny.tiny_model(), folder / "dark.onnx")
    done = subprocess.run(
        sonostream(
            "run", str(folder / "study.dcm"), "--source.pace=fast", f"--model.artifact={model}",
            "--smoothing.enabled=false", "--publish.bind=tcp://127.0.0.1:0", "--http.port=0",
            f"--record.path={folder / 'study.mcap'}", "--record.pictures=false",
        ),
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [item for item in read_recording(folder / "study.mcap") if isinstance(item, Recorded)]


@pytest.mark.parametrize("number", range(len(DEGREES)), ids=[f"{degrees}-degrees" for degrees in DEGREES])
def test_an_ellipse_in_a_dicom_clip_is_measured_within_two_percent_at_any_rotation(
    results: list[Recorded], number: int
) -> None:
    analysis = results[number].analysis
    (lesion,) = analysis.lesions

    assert len(results) == len(DEGREES)
    assert analysis.frame_id == number
    assert analysis.pixel_spacing_mm == pytest.approx((ROW_MM, COLUMN_MM))
    assert (analysis.region.x, analysis.region.y) == (LEFT, TOP)
    assert lesion.longest_mm == pytest.approx(LONGEST_MM, rel=0.02)
    assert lesion.perpendicular_mm == pytest.approx(ACROSS_MM, rel=0.02)
    assert lesion.area_mm2 == pytest.approx(math.pi / 4 * LONGEST_MM * ACROSS_MM, rel=0.03)
    assert lesion.depth_mm == pytest.approx(CENTRE_MM[1], abs=0.2)
    assert lesion.lateral_mm == pytest.approx(CENTRE_MM[0] - WIDTH * COLUMN_MM / 2, abs=0.2)
    first, second = lesion.longest_ends or ((0, 0), (0, 0))
    direction = math.degrees(math.atan2((second[1] - first[1]) * ROW_MM, (second[0] - first[0]) * COLUMN_MM))
    assert abs((direction - DEGREES[number] + 90) % 180 - 90) < 8
