"""Every engine gives the network's answer, for all five networks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.artifact import load_artifact
from models.half import HalfError, half
from models.parity import Answers, measure_parity, reference
from models.quantize import QuantizeError, quantize
from models.runtimes import available, load
from models.runtimes.torch import TorchSession, precisions
from tests.models.exported import NETWORKS, checkpoint, exported, some_frames

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
STATUSES = {status.name: status for status in available() if status.name in ("openvino", "onnxruntime")}
FP32_LEVELS, FP32_CLASSES = 2, 2e-3
# Of random weights, whose maps hover around one half: far harder than a trained network's.
NARROW_LEVELS, NARROW_CLASSES = 8.0, 0.15

# Half precision of files that take a quarter of a minute each to convert and load.
NARROW = [
    pytest.param(one, marks=pytest.mark.heavy if one in ("rmtl_net", "acsnet") else ()) for one in NETWORKS
]

_answers: dict[str, Answers] = {}


def truth(network: str) -> Answers:
    if network not in _answers:
        _answers[network] = reference(checkpoint(network), some_frames(network))
    return _answers[network]


@pytest.mark.parametrize("runtime", STATUSES)
@pytest.mark.parametrize("network", NETWORKS)
def test_fp32_answers_are_pytorchs(network: str, runtime: str, exports: Path) -> None:
    if not STATUSES[runtime].usable:
        pytest.skip(STATUSES[runtime].reason)
    with load(exported(exports, network, "fp32"), runtime, precision="fp32", max_batch=4) as session:
        prediction = session.predict(some_frames(network))
        levels = np.abs(prediction.lesion.astype(int) - truth(network).lesion)
        assert levels.max() <= FP32_LEVELS
        np.testing.assert_allclose(prediction.classes, truth(network).classes, atol=FP32_CLASSES)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_torch_runtime_answers_as_pytorch(network: str) -> None:
    with TorchSession(checkpoint(network), precision="fp32", max_batch=4) as session:
        prediction = session.predict(some_frames(network))
        assert np.abs(prediction.lesion.astype(int) - truth(network).lesion).max() <= FP32_LEVELS
        np.testing.assert_allclose(prediction.classes, truth(network).classes, atol=FP32_CLASSES)


@pytest.mark.parametrize("network", NARROW)
def test_the_torch_runtime_in_bf16_is_close(network: str) -> None:
    if "bf16" not in precisions():
        pytest.skip("no bfloat16 instructions")
    with TorchSession(checkpoint(network), precision="bf16", max_batch=4) as session:
        prediction = session.predict(some_frames(network))
        close(Answers(prediction.lesion.copy(), prediction.classes.copy(), lambda _: None), network)


@pytest.mark.parametrize("runtime", STATUSES)
@pytest.mark.parametrize("network", NETWORKS)
def test_int8_answers_are_close(network: str, runtime: str, exports: Path) -> None:
    if not STATUSES[runtime].usable:
        pytest.skip(STATUSES[runtime].reason)
    close(load_and_answer(exported(exports, network, "int8"), runtime, "fp32", network), network)


@pytest.mark.parametrize("network", NETWORKS)
def test_openvino_in_bf16_is_close(network: str, exports: Path) -> None:
    if "openvino" not in STATUSES or "bf16" not in STATUSES["openvino"].precisions:
        pytest.skip("no OpenVINO, or no bfloat16 instructions")
    close(load_and_answer(exported(exports, network, "fp32"), "openvino", "bf16", network), network)


@pytest.mark.parametrize("network", NARROW)
def test_fp16_answers_are_close(network: str, exports: Path) -> None:
    close(load_and_answer(exported(exports, network, "fp16"), "onnxruntime", "fp32", network), network)


def load_and_answer(path: Path, runtime: str, precision: str, network: str) -> Answers:
    with load(path, runtime, precision=precision, max_batch=4) as session:  # type: ignore[arg-type]
        prediction = session.predict(some_frames(network))
        return Answers(prediction.lesion.copy(), prediction.classes.copy(), lambda _: None)


def close(got: Answers, network: str) -> None:
    expected = truth(network)
    assert np.abs(got.lesion.astype(int) - expected.lesion).mean() <= NARROW_LEVELS
    np.testing.assert_allclose(got.classes, expected.classes, atol=NARROW_CLASSES)


def test_the_table_holds_every_engine_and_precision(exports: Path) -> None:
    artifact = load_artifact(exported(exports, "mtl_oca", "fp32"))
    rows = measure_parity(artifact, truth("mtl_oca"), some_frames("mtl_oca"))
    expected = {(s.name, p) for s in STATUSES.values() if s.usable for p in s.precisions}
    assert {(row.runtime, row.precision) for row in rows} == expected
    (exact,) = (row for row in rows if (row.runtime, row.precision) == ("onnxruntime", "fp32"))
    assert (exact.within, exact.dice, exact.agreement, exact.frames) == (True, 1.0, 1.0, 4)


def test_another_networks_answers_are_beyond_the_bound(exports: Path) -> None:
    artifact = load_artifact(exported(exports, "mtl_oca", "fp32"))
    answers = truth("mtl_oca")
    other = answers._replace(lesion=255 - answers.lesion, classes=answers.classes[:, ::-1].copy())
    rows = measure_parity(artifact, other, some_frames("mtl_oca"), runtimes=["onnxruntime"])
    assert [row.within for row in rows] == [False]


def test_what_fp16_breaks_stays_wide() -> None:
    network = half(checkpoint("mtl_oca").network)
    types = {name: value.dtype for name, value in network.named_parameters()}
    wide = {name for name, kind in types.items() if kind == torch.float32}
    assert {name for name in wide if "norm" in name} == {name for name in types if "norm" in name}
    assert "classify.fc2.layer.weight" in wide
    assert "coarse.layer.weight" in wide
    assert "segment.layer.weight" in wide
    assert "backbone.enc2.conv2.weight" not in wide
    output = network(torch.rand(1, 1, 32, 32))
    assert output.class_logits is not None
    assert output.class_logits.dtype == torch.float32


def test_weights_beyond_fp16_are_refused() -> None:
    network = half(checkpoint("mtl_oca").network, torch.float32)
    with torch.no_grad():
        network.backbone.enc2.conv2.weight[0, 0, 0, 0] = 1e5  # type: ignore[union-attr, index, operator]
    with pytest.raises(HalfError, match=r"backbone.enc2.conv2.weight has values beyond 65504"):
        half(network)


def test_int8_without_frames_is_refused(exports: Path, tmp_path: Path) -> None:
    source = exported(exports, "mtl_oca", "fp32")
    with pytest.raises(QuantizeError, match="int8 needs frames to calibrate with"):
        quantize(source, tmp_path / "int8.onnx", some_frames("mtl_oca")[:0])


def test_a_graph_without_convolutions_is_not_quantised(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match="has no convolution to quantise"):
        quantize(tiny, tmp_path / "int8.onnx", np.zeros((1, 24, 16, 1), np.uint8))
