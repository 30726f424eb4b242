"""LA-Net's objective in its two stages, and what the second takes over from the first."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from models.losses import location_terms, mean_over, pseudo_masks
from models.networks.base import Network, Output
from train.learning.batch import Batch
from train.objectives.base import Objective, ObjectiveError, Options, Share


class LANetOptions(Options, frozen=True, kw_only=True):
    """Options of `la_net`."""

    stage: Literal["locate", "joint"] = "joint"
    """`locate`: stage 1 of Algorithm 1, the mask alone; `joint`: stage 2."""
    # "lambda" cannot be a name in Python.
    lambda_: Share = 0.5
    """Weight of the class, 1 - lambda that of the mask (eq 7)."""
    alpha: Share = 0.1
    """Weight of the images without a location label in the mask's loss (eq 7)."""
    tau: Share = 0.8
    """Confidence from which on a pseudo label is used (eq 7)."""
    gate: Literal["class", "pixel"] = "class"
    """Whose confidence: `class`, as eq 7 has it, of the image's class, for masks above 0.5; `pixel`, as the
    public programs have it, of every pixel, for every image."""


class LANetObjective(Objective):
    """Stage 1: L_floc (eq 6). Stage 2: L_hyb = lambda L_cls + (1 - lambda) L_sloc (eq 7).

    L_sloc = L_sloc-w + alpha L_sloc-wo: of the images with a location label, and of those without.

    A location label is a mask or a filled box. Pseudo labels carry no gradient.
    """

    def __init__(self, network: Network, options: LANetOptions) -> None:
        """See `LANetOptions`.

        :raises ObjectiveError: if the network does not return a sigmoid mask and classes.
        """
        super().__init__(network)
        if self.regions != ("lesion",) or not self.classes:
            raise ObjectiveError(
                f"objective la_net needs one mask through a sigmoid, and classes; {network.name} has regions "
                f"{self.regions} and {self.classes} classes: use objective.name=generic"
            )
        self.options = options

    def forward(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Parts `mask` (of the images with a location label), in stage 2 also `pseudo` and `class`."""
        assert output.lesion_logits is not None
        assert output.class_logits is not None
        options = self.options
        located = batch.masked | batch.boxed
        mask = mean_over(location_terms(output.lesion_logits, batch.masks), located)
        if options.stage == "locate":
            # The class head takes no part. It is added with weight 0 because training on several GPUs waits
            # for the gradient of every parameter.
            return {"mask": mask, "total": mask + 0 * output.class_logits.sum()}
        target, use = pseudo_masks(
            output.lesion_logits.sigmoid(), output.class_logits, gate=options.gate, tau=options.tau
        )
        pseudo = mean_over(location_terms(output.lesion_logits, target), use & ~located)
        classes = self.class_loss(output.class_logits, batch.labels)
        total = options.lambda_ * classes + (1 - options.lambda_) * (mask + options.alpha * pseudo)
        return {"mask": mask, "pseudo": pseudo, "class": classes, "total": total}


def carry_over(network: Network, first: Mapping[str, Tensor], *, reuse_fex: bool = False) -> None:
    """Start stage 2 from stage 1's weights (Algorithm 1).

    :param network: as it is created for stage 2; its other parts keep their weights.
    :param first: `state_dict` of the network that stage 1 trained.
    :param reuse_fex: take over the feature extractor too, as the paper's text says; the algorithm and the
        public programs take over LA-Net alone.
    :raises ObjectiveError: if the weights are not those of such a network.
    """
    parts = ("la_net.", "fex.") if reuse_fex else ("la_net.",)
    own = network.state_dict()
    chosen = {name: value for name, value in first.items() if name.startswith(parts)}
    expected = {name for name in own if name.startswith(parts)}
    if not expected or chosen.keys() != expected:
        raise ObjectiveError(f"the first stage's weights do not fit {network.name}: train both stages anew")
    if any(value.shape != own[name].shape for name, value in chosen.items()):
        raise ObjectiveError(f"the first stage trained another {network.name}: train both stages anew")
    network.load_state_dict({**own, **chosen})
