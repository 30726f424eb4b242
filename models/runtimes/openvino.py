"""OpenVINO on the CPU: the default engine.

The graph is compiled for one frame and called once for each frame of a batch. A batch gains nothing on a CPU
whose threads one frame already fills: for MTL-OCA on two cores, four calls took 9 to 17 % less time than one
call with four frames, and 17 to 29 % less than one with a dynamic batch. It also means one compilation, and
answers that do not depend on what else is in the batch.
"""

import logging
import os
from pathlib import Path
from typing import Any

import openvino as ov

from models.artifact import INPUT, Artifact
from models.runtimes import cpu
from models.runtimes.base import (
    EngineFailed,
    EngineUnavailable,
    Precision,
    PredictionInvalid,
    RuntimeDescription,
    Session,
    engine_words,
)

logger = logging.getLogger(__name__)

VERSION: str = ov.get_version().partition("-")[0]

# Never f16: on a CPU it is emulated, and slower than f32.
_HINTS = {"fp32": "f32", "bf16": "bf16"}


def precisions() -> list[str]:
    """What this processor computes in, fastest first."""
    capabilities = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    # Listed where there are instructions for it (AMX-BF16 or AVX512-BF16), and then 2 to 4 times as fast.
    return ["bf16", "fp32"] if "BF16" in capabilities else ["fp32"]


class OpenVinoSession(Session):
    """A model in OpenVINO."""

    batch_pays = False

    def __init__(
        self,
        artifact: Artifact,
        *,
        precision: Precision = "auto",
        threads: int | None = None,
        max_batch: int = 1,
        cache_dir: Path | None = None,
    ) -> None:
        """Compile the model.

        :param artifact: the model.
        :param precision: what to compute in; `auto`: bf16 where the processor has instructions for it.
        :param threads: None: one for each physical core that this process may use.
        :param max_batch: most frames in one call.
        :param cache_dir: where compiled models are kept for the next start; None: nowhere.
        :raises EngineUnavailable: if the processor cannot compute in that precision.
        :raises EngineFailed: if OpenVINO refuses the model.
        """
        usable = precisions()
        chosen = usable[0] if precision == "auto" else precision
        if chosen not in usable:
            raise EngineUnavailable(
                f"precision {chosen!r}: this processor has no instructions for it ({cpu.name()}); "
                f"use one of: auto, {', '.join(usable)}"
            )
        core = ov.Core()
        threads = threads or cpu.usable_cores()
        config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _HINTS[chosen],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            "ENABLE_HYPER_THREADING": False,
            # Woken after a frame's pause, a worker that may go anywhere starts on its caller's core and waits
            # there: 10 ms to a result instead of 7 (raw frames, two cores). With fewer threads than cores,
            # two daemons pinned to the same cores would be worse off.
            "ENABLE_CPU_PINNING": threads >= cpu.allowed_cores(),
        }
        if cache_dir is not None and _writable(cache_dir):
            config["CACHE_DIR"] = str(cache_dir)
        try:
            model = core.read_model(artifact.path)
            size = artifact.card.input
            model.reshape({INPUT: [1, size.height, size.width, size.channels]})
            compiled = core.compile_model(model, "CPU", config)
        except Exception as error:  # OpenVINO raises bare RuntimeError and more
            raise EngineFailed(f"OpenVINO cannot compile {artifact.path}: {engine_words(error)}") from error
        description = RuntimeDescription(
            name="openvino",
            version=VERSION,
            precision="int8" if artifact.card.precision == "int8" else chosen,
            device=cpu.name(),
            threads=threads,
        )
        super().__init__(artifact.card, description, max_batch=max_batch)
        self._check_outputs(compiled)
        self._requests = [self._bind(compiled, at) for at in range(max_batch)]

    def _check_outputs(self, compiled: ov.CompiledModel) -> None:
        for name, buffer in self._outputs.items():
            shape, expected = compiled.output(name).partial_shape, [1, *buffer.shape[1:]]
            if not shape.compatible(ov.PartialShape(expected)):
                raise PredictionInvalid(
                    f"the graph's output {name!r} is {shape} for one frame, its card says "
                    f"{expected}; export the model again"
                )

    def _bind(self, compiled: ov.CompiledModel, at: int) -> ov.InferRequest:
        """Make a request that reads and writes the buffers of one frame in place."""
        request = compiled.create_infer_request()
        for name, buffer in {INPUT: self._frames, **self._outputs}.items():
            request.set_tensor(name, ov.Tensor(buffer[at : at + 1], shared_memory=True))
        return request

    def _run(self, n: int) -> None:
        try:
            for request in self._requests[:n]:
                request.infer(share_outputs=True)  # without it, every output is copied once more
        except Exception as error:
            raise EngineFailed(f"OpenVINO failed: {engine_words(error)}") from error

    def _release(self) -> None:
        self._requests = []


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
    else:
        if os.access(folder, os.W_OK | os.X_OK):
            return True
        reason = "not writable"
    logger.warning(
        "compiled models are not kept for the next start, which will be slower: %s: %s", folder, reason
    )
    return False
