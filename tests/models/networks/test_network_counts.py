from typing import Any

import pytest
import torch

from models.networks.cost import count_gmacs, count_parameters
from models.networks.registry import build, describe

SINGLE = {"multi_scale": False, "channel_attention": False}
PLAIN = {"gate": False, "dsa": False}

# (network, options, parameters): printed by the papers, or of the reference designs.
PARAMETERS: list[tuple[str, dict[str, Any], int]] = [
    ("mtl_oca", {}, 8_253_575),
    ("mtl_oca", {"bridge": 256}, 5_106_823),
    ("mtl_oca", {"widths": (32, 64, 128), "bridge": 256}, 2_079_367),
    ("mtl_oca", {"edge_norm": "fixed"}, 8_253_575),
    # One input channel less into the first block: 3 x 3 x 64 of the convolution, 64 of the shortcut.
    ("mtl_oca", {"edge_channel": False}, 8_253_575 - 576 - 64),
    ("mtl_oca", {"cls_source": "augmented"}, 8_253_575),
    # Without six transforms of 64 channels to 64 and g of 128 to 64, each with a norm, and the head.
    ("mtl_oca", {"oca": False}, 8_253_575 - 6 * (64 * 64 + 128) - (128 * 64 + 128) - 130),
    ("ctg_net", {}, 22_721_576),
    ("ctg_net", {"channels": 512}, 29_722_472),
    ("ctg_net", {"gland": "pseudo"}, 22_721_576),
    ("ctg_net", {"gland": "absent"}, 22_721_576 - 33),
    ("ctg_net", {"lam_gland": False, "lam_lesion": False}, 22_721_576),
    ("ctg_net", {"akgm": False}, 22_721_576 - 2 * (256 * 32 + 32) - (256 * 256 + 256) - 1),
    ("ctg_net", {"csm": False}, 22_721_576 - 2 * (256 * 256 + 256) - 2 * 256 * 9),
    ("rmtl_net", {"stem": "deep", "unused_fc": True}, 93_506_099),
    ("rmtl_net", {"stem": "deep"}, 91_457_099),
    ("rmtl_net", {"unused_fc": True}, 93_308_595),
    ("rmtl_net", {}, 91_259_595),
    ("rmtl_net", {"stem": "deep", "unused_fc": True, "regions": ("T",)}, 93_506_093),
    ("rmtl_net", {"stem": "deep", "unused_fc": True, "regions": ("T", "B")}, 93_506_098),
    ("rmtl_net", {"stem": "deep", "unused_fc": True, "regions": ()}, 93_504_940),
    ("uresnet", {"stem": "deep", "unused_fc": True}, 93_500_842),
    ("mtl_net", {"stem": "deep", "unused_fc": True}, 93_504_940),
    ("mtl_cosa", {"stem": "deep", "unused_fc": True}, 109_241_266),
    ("la_net_r18", {}, 11_234_065),
    ("la_net_r18", {"cam": False}, 11_189_525),
    ("la_net_r18", {"sam": False}, 11_230_761),
    ("la_net_r18", {"mam": False}, 11_234_065),
    ("la_net_r18", {"sam_kernel": 7, "sam_convs": 1}, 11_231_161),
    ("la_net_r50", {}, 24_250_437),
    ("la_net_r50", {"cam": False}, 23_550_037),
    ("la_net_r50", {"sam": False}, 24_247_133),
    ("la_net_r50", {"sam_kernel": 7, "sam_convs": 1}, 24_247_533),
    ("acsnet", {}, 31_824_945),
    ("unet", {}, 17_909_057),
    ("acsnet", {**SINGLE, "classify": False, "dsa": False}, 21_481_419),
    ("acsnet", {**SINGLE, "classify": False, "gate": False}, 27_319_509),
    ("acsnet", {**SINGLE, "classify": False}, 30_891_871),
    ("acsnet", {**PLAIN, "channel_attention": False}, 18_730_179),
    ("acsnet", PLAIN, 18_842_131),
    ("cunet", {}, 17_909_057 + 512 * 64 + 64 + 64 * 2 + 2),
    ("resnet18", {"num_classes": 1000}, 11_689_512),
    ("resnet50", {"num_classes": 1000}, 25_557_032),
]

# GMACs at the network's own size, from independent counters that also charge norms and resizing, within 1 %.
GMACS = [
    ("mtl_oca", {}, 11.72),
    ("mtl_oca", {"size": 256}, 46.9),
    ("mtl_oca", {"bridge": 256}, 10.41),
    ("ctg_net", {}, 34.52),
    ("ctg_net", {"channels": 512}, 37.06),
    ("rmtl_net", {"stem": "deep"}, 44.49),
    ("rmtl_net", {}, 41.50),
    ("la_net_r18", {}, 2.38),
    ("la_net_r50", {}, 5.39),
    ("la_net_r18", {"size": 512}, 9.54),
    ("la_net_r50", {"size": 512}, 21.56),
    ("acsnet", {}, 23.82),
    ("unet", {}, 18.53),
]


def ids(case: Any) -> str | None:
    return " ".join(f"{k}={v}" for k, v in case.items()) if isinstance(case, dict) else None


@pytest.mark.parametrize(("name", "options", "parameters"), PARAMETERS, ids=ids)
def test_the_parameter_count_is_met_to_the_unit(name: str, options: dict[str, Any], parameters: int) -> None:
    with torch.device("meta"):
        network = build(name, **options)

    assert count_parameters(network) == parameters


@pytest.mark.parametrize(("name", "options", "gmacs"), GMACS, ids=ids)
def test_the_multiply_accumulates_are_met_within_one_percent(
    name: str, options: dict[str, Any], gmacs: float
) -> None:
    assert describe(name, **options).gmacs == pytest.approx(gmacs, rel=0.01)


def test_the_slim_mtl_oca_costs_a_quarter_of_the_default() -> None:
    """Norms and resizing, which only the printed 3.08 charges, are 1.3 % of so thin a network."""
    slim = describe("mtl_oca", widths=(32, 64, 128), bridge=256)

    assert slim.gmacs == pytest.approx(3.08, rel=0.015)


def test_acsnets_printed_size_counts_its_encoder_twice() -> None:
    """42.99 M parameters and 30.96 GMACs: a profiler saw the encoder's stages under two names."""
    with torch.device("meta"):
        network = build("acsnet")
        unused_fc = torch.nn.Linear(512, 1000)
        encoder = build("resnet18")
    encoder_parameters = count_parameters(network.encoder)

    # Both registrations share parameters, and the profiler counts each of the four visits' multiplications.
    assert count_parameters(network) + count_parameters(unused_fc) == 32_337_945
    assert (2 * encoder_parameters + 31_824_945 - encoder_parameters) / 1e6 == pytest.approx(42.99, abs=0.02)
    assert count_gmacs(network)[0] + 3 * count_gmacs(encoder)[0] == pytest.approx(30.95, rel=0.01)


def test_a_class_more_adds_a_row_to_the_class_head_only() -> None:
    two, three = describe("rmtl_net"), describe("rmtl_net", num_classes=3)

    assert three.parameters - two.parameters == 2048 + 1
    assert three.classes == ("benign", "malignant", "normal")


def test_gray_stems_are_a_third_of_colour_ones() -> None:
    gray, colour = describe("resnet18", in_channels=1), describe("resnet18")

    assert colour.parameters - gray.parameters == 2 * 64 * 7 * 7
