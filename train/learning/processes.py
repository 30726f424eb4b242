"""One run over several processes: the same command under `torchrun` shares every batch between them.

The loss is computed on the whole batch in every process, from everyone's outputs, so that what is a mean over
a batch stays one; gradients flow back to the process's own rows and are added up.
"""

import atexit
import logging
import os
import warnings
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor, nn

from models.networks.base import Output
from train.learning.batch import Batch
from train.learning.chance import Rows
from train.run.watch import RunError


def make_fabric(*, bf16: bool, accelerator: str = "auto") -> Fabric:
    """Join the processes that `torchrun` started, or stand alone.

    :param bf16: compute in bfloat16 where autocast allows it.
    :param accelerator: `auto`, `cpu` or `cuda`.
    """
    # Fabric announces itself; what a user should know this trainer says itself.
    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    everywhere = int(os.environ.get("WORLD_SIZE", 1))
    with warnings.catch_warnings():
        # About devices that are there and not asked for; --device is the user's choice.
        warnings.filterwarnings("ignore", module="lightning_fabric")
        fabric = Fabric(
            accelerator=accelerator,
            devices=here,
            num_nodes=max(1, everywhere // here),
            strategy="ddp" if everywhere > 1 else "auto",
            precision="bf16-mixed" if bf16 else "32-true",
        )
        if everywhere > 1:
            fabric.launch()
            # Its threads must be gone before the interpreter is: else the process aborts at its end.
            atexit.register(torch.distributed.destroy_process_group)
    return fabric


def own_rows(batch: int, fabric: Fabric) -> Rows:
    """Say which rows of a batch are this process's.

    :raises RunError: if the batch cannot be shared evenly.
    """
    if batch % fabric.world_size:
        raise RunError(
            f"a batch of {batch} cannot be shared evenly by {fabric.world_size} processes; "
            f"use --set train.batch={-(-batch // fabric.world_size) * fabric.world_size}"
        )
    count = batch // fabric.world_size
    return Rows(fabric.global_rank * count, count, batch)


def whole_output(output: Output) -> Output:
    """Put every process's rows of a network's output together; the gradient goes to the own rows."""
    if not _shared():
        return output
    auxiliary = {name: _with_gradient(value) for name, value in output.auxiliary.items()}
    return Output(
        None if output.lesion_logits is None else _with_gradient(output.lesion_logits),
        None if output.lesion is None else _with_gradient(output.lesion),
        None if output.class_logits is None else _with_gradient(output.class_logits),
        auxiliary,
    )


def whole_batch(batch: Batch) -> Batch:
    """Put every process's rows of a batch together."""
    if not _shared():
        return batch
    return Batch(
        _gathered(batch.frames),
        _gathered(batch.masks),
        _gathered(batch.labels),
        _gathered(batch.masked),
        _gathered(batch.boxed),
        None if batch.glands is None else _gathered(batch.glands),
        None if batch.gland_known is None else _gathered(batch.gland_known),
    )


def share_statistics(network: nn.Module) -> nn.Module:
    """Let batch normalisation see the whole batch where several processes share it."""
    if not _shared():
        return network
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d) and not isinstance(child, _SharedBatchNorm):
                setattr(module, name, _SharedBatchNorm.of(child))
    return network


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process."""
    if not _shared():
        return flag
    value = torch.tensor(float(flag), device=device)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return bool(value.item())


def first_process(value: float, device: torch.device) -> float:
    """The first process's value, in all of them."""
    if not _shared():
        return value
    shared = torch.tensor(value, device=device, dtype=torch.float64)
    dist.broadcast(shared, 0)
    return float(shared.item())


def _shared() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _gathered(value: Tensor) -> Tensor:
    parts = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, value.contiguous())
    return torch.cat(parts)


def _with_gradient(value: Tensor) -> Tensor:
    whole: Tensor = _Gather.apply(value)  # type: ignore[no-untyped-call]
    return whole


class _Gather(torch.autograd.Function):
    """All rows forward; backward the own rows' gradient, which the mean over processes must not shrink."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        ctx.rows = len(value)
        return _gathered(value.contiguous())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        first = dist.get_rank() * ctx.rows
        own: Tensor = gradients[0][first : first + ctx.rows] * dist.get_world_size()
        return own


class _Sum(torch.autograd.Function):
    """The sum over all processes, forward and backward."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:  # noqa: ARG004
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class _SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation with the statistics of the whole batch, on any device (torch's is for GPUs)."""

    @classmethod
    def of(cls, plain: nn.BatchNorm2d) -> "_SharedBatchNorm":
        shared = cls(plain.num_features, plain.eps, plain.momentum, plain.affine, plain.track_running_stats)
        shared._parameters = plain._parameters
        shared._buffers = plain._buffers
        shared.training = plain.training
        return shared

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        wide = x.float()
        count = wide.numel() / wide.shape[1] * dist.get_world_size()
        mean = _Sum.apply(wide.sum(dim=(0, 2, 3))) / count  # type: ignore[no-untyped-call]
        # Not the mean square less the squared mean: their difference would be mostly rounding.
        centred = wide - mean.view(1, -1, 1, 1)
        variance = _Sum.apply(centred.square().sum(dim=(0, 2, 3))) / count  # type: ignore[no-untyped-call]
        self._track(mean.detach(), variance.detach(), count)
        scale = (variance + self.eps).rsqrt() * self.weight
        y: Tensor = centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return y.to(x.dtype)

    def _track(self, mean: Tensor, variance: Tensor, count: float) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        rate = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance * count / (count - 1), rate)
