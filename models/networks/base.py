"""What every network has in common: the frames it reads, the output it returns, the errors it raises."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.networks.registry import ModelError

# ITU-R BT.601, as in every decoder and in OpenCV.
_LUMA = (0.299, 0.587, 0.114)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Output(NamedTuple):
    """What a network says about N frames of H x W.

    A field is None where the network does not do that task (a plain classifier, a plain segmenter).
    """

    lesion_logits: Tensor | None
    """N x R x h x w, R as the network's card says (1: a sigmoid; more: a softmax over R). h x w is the
    frame's own size but for LA-Net, whose mask has one cell per 32 x 32 pixels: bring the target to it."""
    lesion: Tensor | None
    """N x H x W, float32: probability that a pixel belongs to a lesion."""
    class_logits: Tensor | None
    """N x K: logits of the classes, in the order of `Network.classes`."""
    auxiliary: dict[str, Tensor]
    """The network's own maps by name (coarse masks, regions); its card documents each with its shape."""


class Network(nn.Module):
    """Base of every network: `forward` takes frames and returns an `Output`.

    Frames are float, N x 1 x H x W (gray) or N x 3 x H x W (RGB), in [0, 1], of exactly `size`. Everything
    from there on happens inside: gray is repeated or colour reduced to what the stem reads, then normalised.
    """

    mean: Tensor
    std: Tensor
    name: str = ""
    """The name it was created by."""
    options: dict[str, Any]
    """What it was created with: `models.create(net.name, **net.options)` builds the same graph."""

    def __init__(
        self,
        *,
        size: int | tuple[int, int],
        size_divisor: int,
        classes: tuple[str, ...],
        regions: tuple[str, ...],
        in_channels: int,
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (1.0,),
    ) -> None:
        """Check the options all networks share.

        :param size: side of a square frame, or (height, width), in pixels.
        :param size_divisor: both sides must be multiples of it.
        :param classes: names of the classes; empty for a network that does not classify.
        :param regions: names of the channels of `Output.lesion_logits`; empty for one that does not segment.
        :param in_channels: channels the stem reads: 1 (gray) or 3.
        :param mean: per channel, or one for all; frames are in [0, 1].
        :param std: likewise.
        :raises ModelError: if the size or the channel count is not one the network can take.
        """
        super().__init__()
        if in_channels not in (1, 3):
            raise ModelError(f"in_channels must be 1 (gray) or 3 (gray repeated, or RGB), not {in_channels}")
        height, width = (size, size) if isinstance(size, int) else size
        if height % size_divisor or width % size_divisor or min(height, width) < size_divisor:
            fitting = tuple(max(1, round(side / size_divisor)) * size_divisor for side in (height, width))
            raise ModelError(
                f"size {height} x {width} (height x width) does not fit: both sides must be multiples of "
                f"{size_divisor}; use size={fitting}"
            )
        self.size = (height, width)
        self.classes = classes
        self.regions = regions
        self.in_channels = in_channels
        self.options = {}
        if in_channels == 1:
            # One channel stands for three equal ones, so its statistics are their average.
            mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Output:
        """Analyse frames.

        :param frames: N x 1 or 3 x H x W, float in [0, 1].
        :raises ModelError: if the frames have another shape or type.
        """
        raise NotImplementedError

    def prepare(self, frames: Tensor) -> Tensor:
        """Check frames, bring them to `in_channels` and normalise them.

        :param frames: N x 1 or 3 x H x W, float in [0, 1].
        :return: N x `in_channels` x H x W, (frames - mean) / std, in the type of the network's weights.
        :raises ModelError: if the frames have another shape or type.
        """
        frames = self.check(frames)
        if self.in_channels == 1:
            frames = gray(frames)
        elif frames.shape[1] == 1:
            frames = frames.expand(-1, 3, -1, -1)
        # In the frames' own precision: half weights must not make half-precision inputs of 8-bit frames.
        x: Tensor = (frames - self.mean.to(frames.dtype)) / self.std.to(frames.dtype)
        return x.to(self.dtype)

    def check(self, frames: Tensor) -> Tensor:
        """Return the frames, or say what is wrong with them.

        :raises ModelError: if they are not N x 1 or 3 x `size`, float.
        """
        height, width = self.size
        expected = f"{self.name or type(self).__name__} reads float frames N x 1 or 3 x {height} x {width}"
        if not frames.is_floating_point():
            raise ModelError(f"{expected} in [0, 1], got {frames.dtype}; use frames.float() / 255")
        if frames.ndim != 4 or frames.shape[1] not in (1, 3):
            got = " x ".join(str(side) for side in frames.shape)
            raise ModelError(f"{expected}, got {got}; gray frames are frames[:, None]")
        got_height, got_width = frames.shape[2:]
        if (got_height, got_width) != self.size:
            raise ModelError(
                f"{expected}, got frames of {got_height} x {got_width} (height x width); resize them, or "
                f"create the network with size=({got_height}, {got_width})"
            )
        return frames

    def pretrained(self) -> nn.Module | None:
        """Find the part that can start from ImageNet weights.

        :return: a module with torchvision's parameter names; None where there is none.
        """
        return None

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.parameters()).dtype


def gray(frames: Tensor) -> Tensor:
    """Reduce frames to one channel.

    :param frames: N x 1 or 3 x H x W.
    :return: N x 1 x H x W; BT.601 luma of RGB.
    """
    if frames.shape[1] == 1:
        return frames
    return _LUMA[0] * frames[:, 0:1] + _LUMA[1] * frames[:, 1:2] + _LUMA[2] * frames[:, 2:3]
