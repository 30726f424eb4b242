"""PyTorch, from a checkpoint: a low latency for GPUs without TensorRT, and the reference on processors.

On a GPU a call is one replay of a CUDA graph: copies in and out of pinned memory and every kernel between,
which a launch from Python would cost several milliseconds for a network of a hundred layers.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from models.artifact import CLASSES, LESION, Artifact
from models.checkpoint import Checkpoint, read_checkpoint
from models.deployed import Deployed
from models.half import half
from models.networks.registry import ModelError
from models.runtimes import cpu
from models.runtimes.base import (
    EngineFailed,
    EngineUnavailable,
    FramesInvalid,
    Precision,
    RuntimeDescription,
    Session,
    engine_words,
)

VERSION: str = str(torch.__version__)

_NARROW = {"fp16": torch.float16, "bf16": torch.bfloat16}
_WARM_UP = 3  # cuDNN chooses its kernels in the first calls, which must not be recorded


def precisions() -> list[str]:
    """What this machine computes in, fastest first."""
    if torch.cuda.is_available():
        return ["fp16", "bf16", "fp32"]
    # Elsewhere bfloat16 is emulated; half precision always is.
    return ["bf16", "fp32"] if {"AVX512-BF16", "AMX-BF16"} & set(cpu.notable_flags()) else ["fp32"]


class TorchSession(Session):
    """A network in PyTorch."""

    def __init__(
        self,
        model: Checkpoint | Path | Artifact,
        *,
        precision: Precision = "auto",
        threads: int | None = None,
        max_batch: int = 1,
        cache_dir: Path | None = None,  # noqa: ARG002 - it keeps nothing; every engine takes the same
        cuda_graph: bool = True,
    ) -> None:
        """Load the network.

        :param model: a checkpoint, or the path of one.
        :param precision: what to compute in; `auto`: fp16 on a GPU, bf16 on a processor that has it.
        :param threads: on a processor; PyTorch has one number for the whole process. None: one for each
            physical core that this process may use.
        :param max_batch: most frames in one call.
        :param cache_dir: not used.
        :param cuda_graph: replay recorded graphs on a GPU; False: launch kernel by kernel.
        :raises EngineUnavailable: if it is given an exported model, or the machine lacks the precision.
        :raises EngineFailed: if the checkpoint cannot be read.
        """
        if isinstance(model, Artifact):
            raise EngineUnavailable(
                f"torch runs checkpoints, and {model.path} is an exported model: give the checkpoint, or use "
                "another runtime"
            )
        if max_batch < 1:
            raise FramesInvalid(f"max_batch is {max_batch}, expected at least 1")
        usable = precisions()
        chosen = usable[0] if precision == "auto" else precision
        if chosen not in usable:
            raise EngineUnavailable(
                f"precision {chosen!r}: PyTorch is not fast in it here ({cpu.name()}); "
                f"use one of: auto, {', '.join(usable)}"
            )
        try:
            network, card = read_checkpoint(model) if isinstance(model, Path) else model
            # A copy: moving a caller's network to another layout or device would be a surprise.
            network = half(network, _NARROW[chosen]) if chosen in _NARROW else deepcopy(network)
        except ModelError as error:
            raise EngineFailed(str(error)) from None
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        on_gpu = self._device.type == "cuda"
        threads = threads or cpu.usable_cores()
        if not on_gpu:
            torch.set_num_threads(threads)
        self._deployed: Deployed | None = (
            Deployed(network, card.temperature).eval().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        )
        description = RuntimeDescription(
            name="torch",
            version=VERSION,
            precision=chosen,
            device=torch.cuda.get_device_name() if on_gpu else cpu.name(),
            threads=1 if on_gpu else threads,
        )
        super().__init__(card, description, max_batch=max_batch, allocate=_pinned if on_gpu else np.zeros)
        self.batch_pays = on_gpu
        self._given = torch.from_numpy(self._frames)
        self._wanted = {name: torch.from_numpy(buffer) for name, buffer in self._outputs.items()}
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._record = cuda_graph and on_gpu
        #: What its calls are queued on, on a GPU; for timing by events.
        self.stream = torch.cuda.Stream() if on_gpu else None  # type: ignore[no-untyped-call]
        self._static = torch.zeros_like(self._given, device=self._device) if on_gpu else self._given

    def _run(self, n: int) -> None:
        try:
            with torch.inference_mode():
                if self.stream is None:
                    self._call(n)
                    return
                with torch.cuda.stream(self.stream):
                    if self._record:
                        self._replay(n)
                    else:
                        self._call(n)
                self.stream.synchronize()
        except RuntimeError as error:
            raise EngineFailed(f"PyTorch failed: {engine_words(error)}") from error

    def _call(self, n: int) -> None:
        """Queue (on a processor: do) the copy in, the network and the copies out."""
        assert self._deployed is not None
        if self._static is not self._given:
            self._static[:n].copy_(self._given[:n], non_blocking=True)
        lesion, classes = self._deployed(self._static[:n])
        self._wanted[LESION][:n].copy_(lesion, non_blocking=True)
        self._wanted[CLASSES][:n].copy_(classes, non_blocking=True)

    def _replay(self, n: int) -> None:
        graph = self._graphs.get(n)
        if graph is None:
            assert self.stream is not None
            for _ in range(_WARM_UP):
                self._call(n)
            self.stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            # One pool of memory for all: only one of them runs at a time.
            pool = next(iter(self._graphs.values())).pool() if self._graphs else None
            with torch.cuda.graph(graph, pool=pool, stream=self.stream):
                self._call(n)
            self._graphs[n] = graph
        graph.replay()

    def _release(self) -> None:
        self._graphs = {}
        self._deployed = None


def _pinned(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Host memory that the GPU reads and writes by itself."""
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    tensor: Tensor = torch.zeros(shape, dtype=kind, pin_memory=True)
    array: NDArray[Any] = tensor.numpy()
    return array
