"""TensorRT itself, where there is a GPU for it."""

from pathlib import Path

import numpy as np
import pytest

from models.artifact import load_artifact
from models.runtimes import EngineUnavailable
from tests.models.exported import NETWORKS, PRECISIONS, checkpoint, exported, some_frames

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def tensorrt(gpu: None) -> None:  # noqa: ARG001
    from models.runtimes.tensorrt import precisions

    try:
        precisions()
    except EngineUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_an_engine_answers_as_pytorch(network: str, precision: str, tmp_path: Path) -> None:
    from models.parity import reference
    from models.runtimes.tensorrt import TensorRtSession

    artifact = load_artifact(exported(tmp_path, network, precision, target="tensorrt"))
    frames = some_frames(network)
    expected = reference(checkpoint(network), frames)
    with TensorRtSession(artifact, max_batch=4, cache_dir=tmp_path) as session:
        for n in (4, 1, 3):
            got = session.predict(frames[:n])
            levels = np.abs(got.lesion.astype(int) - expected.lesion[:n])
            assert levels.mean() <= (1 if precision == "fp32" else 8)
            np.testing.assert_allclose(got.classes, expected.classes[:n], atol=0.15)
