from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from models.networks.base import Network
from models.networks.rmtl_net import RMTLNet
from tests.models.networks.configurations import DEFAULTS, HUGE, Configuration, awake, frames

pytestmark = [
    # torch.export's own bookkeeping, on its way out of PyTorch.
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
]

# Operators that ONNX Runtime, OpenVINO and TensorRT all have.
PORTABLE = {
    *("Add", "Sub", "Mul", "Div", "Neg", "Sqrt", "Reciprocal", "Pow", "Exp", "Max", "Min", "Clip", "Where"),
    *("Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal", "Not", "And", "Or", "Floor", "Mod"),
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "Relu", "Sigmoid", "Softmax", "BatchNormalization"),
    *(
        "InstanceNormalization",
        "GroupNormalization",
        "ReduceMean",
        "ReduceMax",
        "ReduceSum",
        "ReduceSumSquare",
    ),
    *(
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "Resize",
        "GridSample",
        "Pad",
        "Cast",
        "Concat",
        "Split",
    ),
    *(
        "Slice",
        "Gather",
        "Reshape",
        "Transpose",
        "Expand",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Shape",
        "Identity",
    ),
    *("Constant", "ConstantOfShape", "Range", "Tile"),
}


class Deployed(nn.Module):
    """What an exported network returns: probabilities."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, given: Tensor) -> tuple[Tensor, ...]:
        output = self.network(given)
        classes = None if output.class_logits is None else output.class_logits.softmax(dim=1)
        return tuple(part for part in (output.lesion, classes) if part is not None)


def export(network: Network) -> onnx.ModelProto:
    program = torch.onnx.export(
        Deployed(network).eval(),
        (frames(network, 2),),
        dynamo=True,
        opset_version=20,
        external_data=False,
        dynamic_shapes=({0: torch.export.Dim("n")},),
        verbose=False,
    )
    assert program is not None
    return program.model_proto


# Every graph that differs by more than its widths: the networks, them without parts of their own,
# and what they are trained as without gland masks.
EXPORTED: list[Configuration] = [
    *((name, {}) for name in DEFAULTS if name not in ("uresnet", "resnet50")),
    ("mtl_oca", {"oca": False, "edge_channel": False}),
    ("ctg_net", {"gland": "absent"}),
    ("ctg_net", {"csm": False, "akgm": False, "lam_gland": False, "lam_lesion": False}),
    ("rmtl_net", {"regions": ("T",), "stem": "deep"}),
    ("la_net_r18", {"cam": False, "sam": False, "mam": False}),
    ("acsnet", {"gate": False, "dsa": False, "channel_attention": False}),
]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param(*one, marks=pytest.mark.heavy if one[0] in HUGE else ()) for one in EXPORTED],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_the_exported_network_agrees_at_any_batch(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    network = awake(name, **{**DEFAULTS[name], **options})
    if isinstance(network, RMTLNet) and len(network.regions) == 3:
        kept = network(frames(network, 4)).auxiliary["regions"]
        assert (kept.amax(dim=(0, 2, 3)) > 0.5).all(), "a region is closed: this would not test its branch"
        assert (kept == 0).any(), "no cell is left out: this would not test the gate"

    agrees(network, export(network), tmp_path / "network.onnx")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_regions_that_no_cell_passes_agree_too(tmp_path: Path) -> None:
    network = awake("rmtl_net", **DEFAULTS["rmtl_net"])
    assert isinstance(network, RMTLNet)
    with torch.no_grad():
        network.decoder.conv2.weight *= 0.02
        network.decoder.conv2.bias.zero_()
        assert (network(frames(network, 4)).auxiliary["regions"] == 0).all()

    agrees(network, export(network), tmp_path / "network.onnx")


def agrees(network: Network, model: onnx.ModelProto, path: Path) -> None:
    """Hold a graph to portable operators and to the network's answers at batch 1 and 4."""
    onnx.save(model, path)
    operators = {(node.domain, node.op_type) for node in model.graph.node}
    assert {operator for domain, operator in operators if domain} == set()
    assert {operator for _, operator in operators} <= PORTABLE
    session = onnxruntime.InferenceSession(str(path))
    for batch in (1, 4):
        given = frames(network, batch)
        with torch.no_grad():
            expected = Deployed(network)(given)
        got = session.run(None, {session.get_inputs()[0].name: given.numpy()})
        for want, have in zip(expected, got, strict=True):
            torch.testing.assert_close(torch.from_numpy(have), want, atol=1e-4, rtol=0)
