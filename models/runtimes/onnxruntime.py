"""ONNX Runtime on the CPU: the portable reference, and the fallback where OpenVINO is not installed."""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from models.artifact import INPUT, Artifact
from models.runtimes import cpu
from models.runtimes.base import (
    EngineFailed,
    EngineUnavailable,
    Precision,
    RuntimeDescription,
    Session,
    engine_words,
)

VERSION: str = ort.__version__

_FATAL = 4  # what goes wrong is raised as well; its log lines would say it twice


def precisions() -> list[str]:
    """What this engine computes in, fastest first."""
    return ["fp32"]


class OnnxRuntimeSession(Session):
    """A model in ONNX Runtime."""

    batch_pays = False  # a CPU's cores are full with one frame

    def __init__(
        self,
        artifact: Artifact,
        *,
        precision: Precision = "auto",
        threads: int | None = None,
        max_batch: int = 1,
        cache_dir: Path | None = None,  # noqa: ARG002 - it keeps no compiled models; every engine takes the same
    ) -> None:
        """Load the model.

        :param artifact: the model.
        :param precision: fp32 is all it computes in on a CPU.
        :param threads: None: one for each physical core that this process may use.
        :param max_batch: most frames in one call.
        :param cache_dir: not used.
        :raises EngineUnavailable: if another precision is asked for.
        :raises EngineFailed: if ONNX Runtime refuses the model.
        """
        if precision not in ("auto", "fp32"):
            raise EngineUnavailable(
                f"precision {precision!r}: ONNX Runtime computes in fp32 on a CPU; "
                "use precision auto or fp32, or runtime openvino"
            )
        threads = threads or cpu.usable_cores()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL
        # Spinning burns 40 ms of processor time for every frame at 30 fps, to gain 2 to 4 ms of latency.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: ort.InferenceSession | None = ort.InferenceSession(
                str(artifact.path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common base but Exception
            raise EngineFailed(f"ONNX Runtime cannot load {artifact.path}: {engine_words(error)}") from error
        description = RuntimeDescription(
            name="onnxruntime",
            version=VERSION,
            precision="int8" if artifact.card.precision == "int8" else "fp32",
            device=cpu.name(),
            threads=threads,
        )
        super().__init__(artifact.card, description, max_batch=max_batch)
        self._bindings = [self._bind(self._session, n) for n in range(1, max_batch + 1)]

    def _bind(self, session: ort.InferenceSession, n: int) -> ort.IOBinding:
        """Make a binding that reads and writes the buffers of n frames in place."""
        binding = session.io_binding()
        frames = self._frames[:n]
        binding.bind_input(INPUT, "cpu", 0, np.uint8, frames.shape, frames.ctypes.data)
        for name, whole in self._outputs.items():
            buffer = whole[:n]
            binding.bind_output(name, "cpu", 0, buffer.dtype.type, buffer.shape, buffer.ctypes.data)
        return binding

    def _run(self, n: int) -> None:
        assert self._session is not None
        try:
            self._session.run_with_iobinding(self._bindings[n - 1])
        except Exception as error:
            raise EngineFailed(f"ONNX Runtime failed: {engine_words(error)}") from error

    def _release(self) -> None:
        self._bindings = []
        self._session = None
