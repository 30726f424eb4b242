import inspect
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import models
from models import ModelError
from models.networks.cards import CARDS
from models.networks.registry import build
from models.networks.resnet import ResNet
from models.networks.vgg import VGG16
from tests.models.networks.configurations import DEFAULTS, frames


def test_importing_models_does_not_import_torch() -> None:
    program = "import sys, models, models.listing; models.list_models(); assert 'torch' not in sys.modules"

    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[3])


def test_the_five_networks_our_own_and_the_baselines_are_listed() -> None:
    papers = ["mtl_oca", "ctg_net", "rmtl_net", "la_net_r18", "la_net_r50", "acsnet"]
    baselines = ["unet", "cunet", "uresnet", "mtl_net", "mtl_cosa", "resnet18", "resnet50"]

    assert models.list_models() == [*papers, "sonolite", *baselines]
    assert set(DEFAULTS) == set(models.list_models())


@pytest.mark.parametrize("name", models.list_models())
def test_a_card_says_what_its_network_is(name: str) -> None:
    with torch.device("meta"):
        network = build(name)
        output = network(torch.zeros(2, 1, *network.size))

    card = models.card(name)
    assert network.size == (card.size, card.size)
    assert set(output.auxiliary) == set(card.auxiliary)
    assert (card.weights is None) == (network.pretrained() is None)
    height, width = network.size
    if network.regions:
        assert output.lesion_logits is not None
        assert output.lesion is not None
        assert output.lesion_logits.shape[:2] == (2, len(network.regions))
        assert output.lesion.shape == (2, height, width)
        assert output.lesion.dtype == torch.float32
    else:
        assert output.lesion_logits is output.lesion is None
    if network.classes:
        assert output.class_logits is not None
        assert output.class_logits.shape == (2, len(network.classes))
    else:
        assert output.class_logits is None


@pytest.mark.parametrize("name", [name for name in models.list_models() if name not in ("unet", "uresnet")])
def test_every_classifier_takes_three_classes(name: str) -> None:
    assert models.describe(name, num_classes=3).classes == ("benign", "malignant", "normal")


@pytest.mark.parametrize("name", models.list_models())
def test_every_network_reads_gray_and_colour_frames(name: str) -> None:
    with torch.device("meta"):
        network = build(name, in_channels=1)
        gray, colour = (network(torch.zeros(2, channels, *network.size)) for channels in (1, 3))

    assert [None if x is None else x.shape for x in gray[:3]] == [
        None if x is None else x.shape for x in colour[:3]
    ]


@pytest.mark.parametrize("name", ["mtl_oca", "la_net_r18", "acsnet"])
def test_gray_frames_are_frames_of_three_equal_channels(name: str) -> None:
    network = build(name, size=64).eval()
    gray = frames(network, 2)

    with torch.no_grad():
        one, three = network(gray), network(gray.expand(-1, 3, -1, -1))

    torch.testing.assert_close(one.lesion, three.lesion, atol=1e-5, rtol=0)


def test_a_network_can_be_built_again_from_what_it_says_of_itself() -> None:
    network = models.create("mtl_oca", widths=(32, 64, 128), bridge=256, num_classes=2, size=64)

    again = models.create(network.name, **network.options)

    again.load_state_dict(network.state_dict())
    assert again.size == (64, 64)
    assert again.classes == ("benign", "malignant")


def test_an_unknown_network_is_answered_with_those_there_are() -> None:
    with pytest.raises(
        ModelError, match=r"no network named 'unet\+\+'; there are mtl_oca, ctg_net, .*resnet50"
    ):
        models.create("unet++")


def test_an_unknown_option_is_answered_with_those_there_are() -> None:
    with pytest.raises(
        ModelError, match="la_net_r18 has no option backbone; it has num_classes, .*sam_convs"
    ):
        models.create("la_net_r18", backbone="resnet50")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ctg_net", {"size": 250}, r"250 x 250 .*multiples of 16; use size=\(256, 256\)"),
        ("rmtl_net", {"size": (256, 250)}, r"multiples of 32; use size=\(256, 256\)"),
        ("mtl_oca", {"size": 0}, r"use size=\(8, 8\)"),
        ("acsnet", {"size": 32}, "need 64 or more"),
        ("acsnet", {"in_channels": 2}, r"in_channels must be 1 \(gray\) or 3"),
        ("mtl_oca", {"in_channels": 3}, "in_channels must be 1"),
        ("resnet18", {"num_classes": 1}, r"num_classes must be 2 \(benign, malignant\) or more"),
        ("mtl_oca", {"edge_norm": "mean"}, "edge_norm must be one of 'max', 'fixed', not 'mean'"),
        ("mtl_oca", {"sigma": 0}, "sigma must be positive"),
        ("mtl_oca", {"cls_pool": 0}, "cls_pool must be 'gap', 'gap.gmp' or a number"),
        ("mtl_oca", {"oca": False, "cls_source": "augmented"}, "needs oca=True"),
        ("mtl_oca", {"widths": (2, 4, 8)}, "multiples of 4"),
        ("ctg_net", {"gland": "none"}, "gland must be one of 'supervised'"),
        ("ctg_net", {"lam_identity": False, "lam_lesion": False, "gland": "absent"}, "must be True"),
        ("rmtl_net", {"regions": ("T", "X")}, "regions must be distinct, from 'T', 'P' and 'B'"),
        ("rmtl_net", {"classify": False}, "regions guide the class head"),
        ("rmtl_net", {"stem": "wide"}, "stem must be one of 'plain', 'deep'"),
        ("la_net_r18", {"sam_kernel": 4}, "sam_kernel must be odd"),
        ("acsnet", {"segment": False}, "leaves no decoder"),
        ("acsnet", {"classify": False}, "leaves no class head"),
        (
            "acsnet",
            dict.fromkeys(["segment", "classify", "gate", "dsa", "multi_scale", "channel_attention"], False),
            "segment or classify must be True",
        ),
    ],
)
def test_an_impossible_option_is_refused_with_what_is_allowed(
    name: str, options: dict[str, object], message: str
) -> None:
    with torch.device("meta"), pytest.raises(ModelError, match=message):
        build(name, **options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(1, 1, 128, 128, dtype=torch.uint8), r"use frames.float\(\) / 255"),
        (
            torch.zeros(1, 128, 128),
            r"N x 1 or 3 x 128 x 128.*got 1 x 128 x 128; gray frames are frames\[:, None\]",
        ),
        (torch.zeros(1, 2, 128, 128), "got 1 x 2 x 128 x 128"),
        (torch.zeros(1, 1, 120, 128), r"got frames of 120 x 128 .*size=\(120, 128\)"),
    ],
)
def test_frames_of_another_kind_are_refused(given: torch.Tensor, message: str) -> None:
    network = build("mtl_oca", widths=(4, 4, 4), bridge=4)

    with pytest.raises(ModelError, match=message):
        network(given)


def test_random_weights_are_said_to_be_random(caplog: pytest.LogCaptureFixture) -> None:
    models.create("resnet18")

    assert caplog.messages == [
        "resnet18 starts from random weights, its paper from ImageNet's: pass weights=FILE, a local copy of "
        "torchvision's resnet18-f37072fd.pth"
    ]


@pytest.mark.parametrize(
    ("name", "encoder"),
    [("la_net_r18", ResNet(18, unused_fc=True)), ("ctg_net", VGG16())],
    ids=["resnet", "vgg"],
)
def test_imagenet_weights_load_from_a_file(
    name: str, encoder: torch.nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "weights.pth"
    published = encoder.state_dict() | {"classifier.0.weight": torch.zeros(1)}
    torch.save({k: v for k, v in published.items() if "num_batches" not in k}, path)

    loaded = models.create(name, size=64, weights=path).pretrained()

    assert loaded is not None
    for key, value in loaded.state_dict().items():
        torch.testing.assert_close(value, published[key])
    assert caplog.messages == [f"{name}: ImageNet weights from {path}"]


def test_a_gray_stem_with_summed_weights_sees_what_a_colour_stem_sees(tmp_path: Path) -> None:
    torch.save(ResNet(18).state_dict(), tmp_path / "weights.pth")
    colour = models.create("la_net_r18", size=64, weights=tmp_path / "weights.pth").eval()
    gray = models.create("la_net_r18", size=64, in_channels=1, weights=tmp_path / "weights.pth").eval()
    rest = {k: v for k, v in colour.state_dict().items() if not k.startswith("fex.")}
    gray.load_state_dict(gray.state_dict() | rest)

    with torch.no_grad():
        seen = [network(frames(colour, 2)) for network in (colour, gray)]

    torch.testing.assert_close(seen[0].class_logits, seen[1].class_logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "content", "message"),
    [
        ("resnet18", {}, None, "no such weights file"),
        ("resnet18", {}, b"not weights", "is not a file of weights"),
        ("resnet18", {}, [1, 2], "does not hold a mapping"),
        ("resnet18", {}, {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "it lacks bn1.bias, .* and has nothing"),
        ("resnet18", {}, VGG16().state_dict(), "it lacks bn1.bias, .* and has features.0.bias"),
        ("rmtl_net", {"stem": "deep"}, ResNet(18).state_dict(), "another network's weights"),
        ("mtl_oca", {}, {}, "mtl_oca has no part that ImageNet weights fit"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    name: str, options: dict[str, object], content: object, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)

    with torch.device("meta"), pytest.raises(ModelError, match=message):
        models.create(name, weights=path, **options)


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    wide = {
        key: value.repeat_interleave(2, dim=0) for key, value in ResNet(18).state_dict().items() if value.ndim
    }
    torch.save(wide, tmp_path / "weights.pth")

    with pytest.raises(ModelError, match=r"conv1.weight is \(128, 3, 7, 7\), not \(64, 3, 7, 7\)"):
        models.create("resnet18", weights=tmp_path / "weights.pth")


def test_half_weights_read_full_precision_frames() -> None:
    network = build("mtl_oca", size=32, widths=(16, 16, 16), bridge=16).eval()
    given = frames(network, 2)
    with torch.no_grad():
        full = network(given).lesion
        half = network.half()(given).lesion

    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, atol=0.02, rtol=0)


@pytest.mark.parametrize("name", models.list_models())
def test_every_option_of_a_network_is_documented(name: str) -> None:
    from importlib import import_module

    module, _, builder = CARDS[name].builder.partition(":")
    constructor = getattr(import_module(module), builder).__init__

    undocumented = [
        option
        for option in inspect.signature(constructor).parameters
        if option != "self" and f":param {option}:" not in constructor.__doc__
    ]
    assert name == "mtl_cosa" or undocumented == []
