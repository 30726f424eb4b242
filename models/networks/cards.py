"""What is known of each network before it is built. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_MTL_OCA = (
    "Lu, Sun, Wang, Yu: Automatic joint segmentation and classification of breast ultrasound images via "
    "multi-task learning with object contextual attention. Front. Oncol., 2025"
)
_CTG_NET = (
    "Yang, Suzuki, Ye, Nosato, Izumori, Sakanashi: CTG-Net: Cross-task guided network for breast ultrasound "
    "diagnosis. PLoS ONE 17(8): e0271106, 2022"
)
_RMTL_NET = (
    "Xu, Huang, Qi: A Regional-Attentive Multi-Task Learning Framework for Breast Ultrasound Image "
    "Segmentation and Classification. IEEE Access 11, 2023"
)
_LA_NET = (
    "Fan, Gong, Tang, Lee, Zhang, Song, Chen, Li: Joint localization and classification of breast masses on "
    "ultrasound images using an auxiliary attention-based framework. Med. Image Anal. 90: 102960, 2023"
)
_ACSNET = (
    "He, Yang, Su, Wang: Multi-task learning for segmentation and classification of breast tumors from "
    "ultrasound images. Comput. Biol. Med., 2024"
)
_RESNET = "He, Zhang, Ren, Sun: Deep residual learning for image recognition. CVPR, 2016"

_RESNET18, _RESNET50 = "resnet18-f37072fd.pth", "resnet50-11ad3fa6.pth"
_RESNET101, _VGG16 = "resnet101-cd907fc2.pth", "vgg16-397923af.pth"

_RMTL_DOI, _LA_DOI = "10.1109/ACCESS.2023.3236693", "10.1016/j.media.2023.102960"
_MASK = {"mask": "N x 1 x S x S: f_mask in [0, 1], S = size / 32 (eq 2)"}
_BARE = {"gate": False, "dsa": False, "multi_scale": False, "channel_attention": False, "segment": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What is known of a network before it is built."""

    name: str
    builder: str
    """`module:class`; its keyword arguments are the network's options."""
    preset: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the builder that make this network what it is; they are not options."""
    paper: str
    doi: str | None = None
    size: int
    """Side of the frame, in pixels, where the user asks for no other."""
    size_divisor: int
    auxiliary: Mapping[str, str] = field(default_factory=dict)
    """`Output.auxiliary` of the network without options: name -> shape and meaning."""
    weights: str | None = None
    """ImageNet weights its encoder can start from: the name of the file that torchvision publishes."""
    note: str = ""
    licence: str = "Apache-2.0; written from the paper, no code or weights of its authors"


_ALL = (
    Card(
        name="mtl_oca",
        builder="models.networks.mtl_oca:MTLOCA",
        paper=_MTL_OCA,
        size=128,
        size_divisor=8,
        auxiliary={"coarse_logits": "N x 2 x H x W: background, lesion; the soft object regions D of eq 1"},
        note="widths, the class head's pooling and sigma are ours",
    ),
    Card(
        name="ctg_net",
        builder="models.networks.ctg_net:CTGNet",
        paper=_CTG_NET,
        doi="10.1371/journal.pone.0271106",
        size=256,
        size_divisor=16,
        auxiliary={
            "coarse_logits": "N x 3 x H x W: background, gland, lesion; without gland N x 2: rest, lesion"
        },
        weights=_VGG16,
        note="input size, widths, D and the class vectors' shape are ours",
    ),
    Card(
        name="rmtl_net",
        builder="models.networks.rmtl_net:RMTLNet",
        paper=_RMTL_NET,
        doi=_RMTL_DOI,
        size=256,
        size_divisor=32,
        auxiliary={
            "regions": "N x 3 x H/32 x W/32: the kept probabilities P'' of lesion, peritumoral, background"
        },
        weights=_RESNET101,
    ),
    Card(
        name="la_net_r18",
        builder="models.networks.la_net:LANet",
        preset={"backbone": "resnet18"},
        paper=_LA_NET,
        doi=_LA_DOI,
        size=256,
        size_divisor=32,
        auxiliary=_MASK,
        weights=_RESNET18,
    ),
    Card(
        name="la_net_r50",
        builder="models.networks.la_net:LANet",
        preset={"backbone": "resnet50"},
        paper=_LA_NET,
        doi=_LA_DOI,
        size=256,
        size_divisor=32,
        auxiliary=_MASK,
        weights=_RESNET50,
    ),
    Card(
        name="acsnet",
        builder="models.networks.acsnet:ACSNet",
        paper=_ACSNET,
        size=256,
        size_divisor=32,
        weights=_RESNET18,
        note="the printed 42.99 M parameters count the encoder twice",
    ),
    Card(
        name="sonolite",
        builder="models.networks.sonolite:Sonolite",
        paper="none: ours, a light network for live feeds made of what the five papers teach",
        size=192,
        size_divisor=32,
        auxiliary={"coarse_logits": "N x 2 x H x W: background, lesion; the mask as first seen, at 1/16"},
        licence="Apache-2.0",
    ),
    Card(
        name="unet",
        builder="models.networks.acsnet:ACSNet",
        preset={**_BARE, "classify": False, "num_classes": 2},
        paper=f"baseline of {_ACSNET}",
        size=256,
        size_divisor=32,
        weights=_RESNET18,
    ),
    Card(
        name="cunet",
        builder="models.networks.acsnet:ACSNet",
        preset={**_BARE, "classify": True},
        paper=f"baseline of {_ACSNET}",
        size=256,
        size_divisor=32,
        weights=_RESNET18,
        note="the class head's width (64) is ours",
    ),
    Card(
        name="uresnet",
        builder="models.networks.rmtl_net:RMTLNet",
        preset={"regions": (), "classify": False, "detach_regions": False, "num_classes": 2, "dropout": 0.0},
        paper=f"baseline of {_RMTL_NET}",
        doi=_RMTL_DOI,
        size=256,
        size_divisor=32,
        weights=_RESNET101,
    ),
    Card(
        name="mtl_net",
        builder="models.networks.rmtl_net:RMTLNet",
        preset={"regions": (), "classify": True, "detach_regions": False},
        paper=f"baseline of {_RMTL_NET}",
        doi=_RMTL_DOI,
        size=256,
        size_divisor=32,
        weights=_RESNET101,
    ),
    Card(
        name="mtl_cosa",
        builder="models.networks.baselines:MTLCOSA",
        paper=f"baseline of {_RMTL_NET}",
        doi=_RMTL_DOI,
        size=256,
        size_divisor=32,
        auxiliary={"regions": "N x 3 x H/32 x W/32: binary tumour, peritumoral and background masks"},
        weights=_RESNET101,
        note="built from its description in RMTL-Net's paper",
    ),
    Card(
        name="resnet18",
        builder="models.networks.baselines:ResNetClassifier",
        preset={"depth": 18},
        paper=_RESNET,
        size=256,
        size_divisor=32,
        weights=_RESNET18,
    ),
    Card(
        name="resnet50",
        builder="models.networks.baselines:ResNetClassifier",
        preset={"depth": 50},
        paper=_RESNET,
        size=256,
        size_divisor=32,
        weights=_RESNET50,
    ),
)
CARDS = {card.name: card for card in _ALL}
