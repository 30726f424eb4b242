"""The torch runtime on a GPU: graphs answer as plain calls do, at every batch size and precision."""

import numpy as np
import pytest

from models.runtimes.base import Precision
from tests.models.exported import NETWORKS, checkpoint, some_frames

pytestmark = pytest.mark.gpu
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_replayed_graph_answers_as_plain_calls_do(network: str, precision: Precision) -> None:
    from models.runtimes.torch import TorchSession

    frames = some_frames(network)
    plain = TorchSession(checkpoint(network), precision=precision, max_batch=4, cuda_graph=False)
    replayed = TorchSession(checkpoint(network), precision=precision, max_batch=4)
    for n in (1, 4, 2, 1):
        # Other frames than those that were recorded.
        given = frames[::-1][:n].copy()
        expected, got = plain.predict(given), replayed.predict(given)
        assert np.abs(got.lesion.astype(int) - expected.lesion).mean() <= 1
        np.testing.assert_allclose(got.classes, expected.classes, atol=0.02)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_precision_is_close_to_the_processor_in_fp32(network: str) -> None:
    from models.parity import reference
    from models.runtimes.torch import TorchSession

    frames = some_frames(network)
    expected = reference(checkpoint(network), frames)
    for precision in PRECISIONS:
        got = TorchSession(checkpoint(network), precision=precision, max_batch=4).predict(frames)
        assert np.abs(got.lesion.astype(int) - expected.lesion).mean() <= 8
        np.testing.assert_allclose(got.classes, expected.classes, atol=0.15)


def test_a_call_allocates_nothing_on_the_gpu() -> None:
    import torch

    from models.runtimes.torch import TorchSession

    session = TorchSession(checkpoint("mtl_oca"), max_batch=4)
    session.warm_up()
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    for n in (1, 4, 2):
        session.predict(some_frames("mtl_oca", n))
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before
