"""How a network is trained."""

from dataclasses import dataclass, field, replace

from train.augment import Strength


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything about a run but the network, the data and the time it may take."""

    name: str
    batch: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "constant"
    """`constant`, or `cosine`: warm-up over 2 % of the run, then down to 1 % of `lr` at its end."""
    coarse_weight: float = 0.4
    """Alpha of MTL-OCA's eq 5."""
    dice_weight: float = 0.0
    """Of a soft Dice loss beside the mask's cross-entropy."""
    class_weight: float = 1.0
    label_smoothing: float = 0.0
    class_shares: tuple[float, float, float] | None = None
    """Share of benign, malignant and normal in what is drawn; None leaves them as in the data."""
    synthetic_share: float = 0.3
    """Share of phantom images in what is drawn."""
    ema: float = 0.0
    """Decay per step of the averaged weights that are validated and exported; 0: the weights themselves."""
    augment: Strength = field(default_factory=Strength)
    bf16: bool = True
    """Compute in bfloat16 where autocast allows it."""


# Without knobs that imitate other scanners: only what the paper names.
_PAPER_STRENGTH = Strength(
    rotation_deg=45,
    vertical_flip=True,
    zoom=0.25,
    aspect=0,
    shift=0.1,
    gain=0,
    gamma=0,
    depth_gain=0,
    contrast=0.3,
    speckle=0,
    blur=0,
    coarse=1,
    compression=0,
    marks=0,
    borders=0,
)

RECIPES = {
    "live": Recipe(
        name="live",
        lr=1.5e-3,
        weight_decay=0.02,
        schedule="cosine",
        dice_weight=1.0,
        class_weight=1.0,
        label_smoothing=0.05,
        class_shares=(0.42, 0.34, 0.24),
        ema=0.995,
    ),
    "paper": Recipe(
        name="paper",
        class_shares=(1 / 3, 1 / 3, 1 / 3),
        synthetic_share=0,
        augment=_PAPER_STRENGTH,
        bf16=False,
    ),
}
"""By name. `paper` is MTL-OCA's own: Adam, constant rate, cross-entropy for masks and classes."""


def recipe(name: str, **changes: object) -> Recipe:
    """Look up a recipe, with some of its values changed.

    :raises ValueError: if there is no such recipe.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe named {name!r}; there are {', '.join(RECIPES)}")
    return replace(RECIPES[name], **changes)  # type: ignore[arg-type]
