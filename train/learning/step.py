"""Parts of a step that are no mathematics: reading losses without waiting for a GPU, averaging weights."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from train.run.watch import TrainingError


class Losses:
    """Adds up the losses of an epoch's steps.

    A GPU is asked for the values of a step after the next one has been given to it, so that it never waits.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.sums: dict[str, float] = {}
        self.latest: dict[str, float] = {}
        """Of the last step that was read."""
        self._names: list[str] = []
        self._pending: tuple[Tensor, torch.cuda.Event | None, Sequence[str]] | None = None

    def add(self, losses: dict[str, Tensor], images: Sequence[str]) -> None:
        """Note the losses of a step.

        :param images: names of its batch.
        :raises TrainingError: if one (on a GPU: of the step before) is not finite.
        """
        self._names = list(losses)
        values = torch.stack([value.detach().float() for value in losses.values()])
        if values.device.type != "cuda":
            self._pending = values, None, images
            self.read()
            return
        self.read()
        host = torch.empty(values.shape, pin_memory=True)
        host.copy_(values, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._pending = host, event, images

    def read(self) -> None:
        """Wait for the last step's losses.

        :raises TrainingError: if one is not finite.
        """
        if self._pending is None:
            return
        values, event, images = self._pending
        self._pending = None
        if event is not None:
            event.synchronize()
        self.latest = dict(zip(self._names, values.tolist(), strict=True))
        if not all(map(math.isfinite, self.latest.values())):
            parts = ", ".join(f"{name} {value:g}" for name, value in self.latest.items())
            raise TrainingError(
                f"the loss is not finite ({parts}); the batch was: {', '.join(images)}. Look at these "
                "images, or lower optimizer.lr, or set train.clip; the checkpoint before is intact"
            )
        for name, value in self.latest.items():
            self.sums[name] = self.sums.get(name, 0.0) + value


@torch.no_grad()
def average(mean: nn.Module, network: nn.Module, decay: float) -> None:
    """Move averaged weights towards the network's; what is not a number with a point is copied."""
    means, values = [], []
    for old, new in zip(mean.state_dict().values(), network.state_dict().values(), strict=True):
        if old.is_floating_point():
            means.append(old)
            values.append(new)
        else:
            old.copy_(new)
    torch._foreach_lerp_(means, values, 1 - decay)
