"""TensorRT on an NVIDIA GPU: an engine of its own for each model, GPU and version, replayed as a CUDA graph.

A call is one graph launch: the copy of the frames in, the engine, the copies of its answers out. Nothing is
allocated by it. Each batch size has a context and a graph of its own, made when it is first used; the
contexts share one workspace, since only one runs at a time.
"""

import logging
from pathlib import Path
from typing import Any

from models.artifact import CLASSES, INPUT, LESION, Artifact
from models.runtimes import tensorrt_engine
from models.runtimes.base import (
    EngineFailed,
    EngineUnavailable,
    FramesInvalid,
    Precision,
    PredictionInvalid,
    RuntimeDescription,
    Session,
    engine_words,
)
from models.runtimes.cuda import Cuda, Gpu, driver_present
from models.runtimes.tensorrt_engine import EngineKey, Log, Progress

logger = logging.getLogger(__name__)


def __getattr__(name: str) -> Any:
    """Import TensorRT only when its version is asked for: most machines have no GPU."""
    if name == "VERSION":
        return tensorrt_engine.import_api().__version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def precisions() -> list[str]:
    """What can be run here: artifacts of these precisions.

    :raises EngineUnavailable: if there is no GPU, or a package is missing.
    """
    if not driver_present():
        raise EngineUnavailable("tensorrt needs an NVIDIA GPU and its driver; there is none here")
    tensorrt_engine.import_api()
    Cuda().close()
    return ["int8", "fp16", "fp32"]


class TensorRtSession(Session):
    """A model in TensorRT."""

    def __init__(
        self,
        artifact: Artifact,
        *,
        precision: Precision = "auto",
        threads: int | None = None,  # noqa: ARG002 - the GPU has its own; every engine takes the same
        max_batch: int = 1,
        cache_dir: Path | None = None,
        progress: Progress | None = None,
        api: Any = None,
        cuda: Any = None,
    ) -> None:
        """Load the model's engine, or build it.

        :param artifact: the model; TensorRT computes in the precision its graph was exported in.
        :param precision: `auto`, or the artifact's own.
        :param threads: not used.
        :param max_batch: most frames in one call.
        :param cache_dir: where engines are kept; None: built at every start, which may take minutes.
        :param progress: told of every step of a build; None: logged.
        :param api: the TensorRT binding; None: whichever is installed.
        :param cuda: the module `cuda.bindings.runtime`; None: the installed one.
        :raises EngineUnavailable: if a package or a GPU is missing, or the artifact has another precision.
        :raises EngineFailed: if TensorRT refuses the model.
        """
        if max_batch < 1:
            raise FramesInvalid(f"max_batch is {max_batch}, expected at least 1")
        card = artifact.card
        if precision not in ("auto", card.precision):
            raise EngineUnavailable(
                f"precision {precision!r}: TensorRT computes in the precision of the file, and this one is "
                f"{card.precision}; export it with --precision {precision}, or use precision auto"
            )
        if card.quantization == "cpu":
            raise EngineUnavailable(
                f"{artifact.path} was quantised for processors, which TensorRT does not read; export it with "
                "--precision int8 --target tensorrt"
            )
        if api is None and not driver_present():
            raise EngineUnavailable(
                "tensorrt needs an NVIDIA GPU and its driver; there is none here: use runtime auto"
            )
        self._api = api or tensorrt_engine.import_api()
        self._cuda = Cuda(cuda)
        self._log = Log(self._api)
        self._contexts: dict[int, Any] = {}
        self._graphs: dict[int, Any] = {}
        try:
            gpu = self._cuda.gpu()
            self._engine = self._load(artifact, gpu, max_batch, cache_dir, progress)
            description = RuntimeDescription(
                name="tensorrt",
                version=self._api.__version__,
                precision=card.precision,
                device=gpu.name,
                threads=1,
            )
            super().__init__(card, description, max_batch=max_batch, allocate=self._cuda.pinned)
            self._check_engine(artifact)
            buffers = {INPUT: self._frames, **self._outputs}
            self._device = {name: self._cuda.allocate(buffer.nbytes) for name, buffer in buffers.items()}
            self._workspace_bytes = max(1, int(self._engine.device_memory_size_v2))
            self._workspace = self._cuda.allocate(self._workspace_bytes)
        except BaseException:
            self._cuda.close()
            raise

    def _load(
        self, artifact: Artifact, gpu: Gpu, max_batch: int, cache_dir: Path | None, progress: Progress | None
    ) -> Any:
        """Deserialize the kept engine; build one if there is none that this TensorRT takes."""
        key = engine_key(self._api, artifact, gpu, max_batch)
        file = None if cache_dir is None else tensorrt_engine.path_of(cache_dir, key)
        plan = None if file is None else tensorrt_engine.read(file, key)
        runtime = self._runtime = self._api.Runtime(self._log.sink)
        if plan is not None:
            engine = runtime.deserialize_cuda_engine(plan)
            if engine is not None:
                return engine
            logger.warning("TensorRT refuses the kept engine (%s); it is built again", self._log.said())
        logger.info("building the engine of %s for %s: seconds to minutes, once", artifact.path, gpu.name)
        timings = None if cache_dir is None else tensorrt_engine.timings_of(cache_dir, key)
        plan = tensorrt_engine.build(
            self._api, artifact, max_batch=max_batch, timing_cache=timings, progress=progress or _log_progress
        )
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:  # no exception: that is all it says
            raise EngineFailed(
                f"TensorRT does not load the engine it built for {artifact.path}: {self._log.said()}"
            )
        if file is not None:
            tensorrt_engine.write(file, tensorrt_engine.pack(plan, key))
        return engine

    def _check_engine(self, artifact: Artifact) -> None:
        """Hold the engine to the contract before its buffers are trusted to it."""
        engine, types, modes = self._engine, self._api.DataType, self._api.TensorIOMode
        expected = {
            INPUT: (modes.INPUT, types.UINT8, self._frames),
            LESION: (modes.OUTPUT, types.UINT8, self._outputs[LESION]),
            CLASSES: (modes.OUTPUT, types.FLOAT, self._outputs[CLASSES]),
        }
        names = {engine.get_tensor_name(at) for at in range(engine.num_io_tensors)}
        if names != set(expected):
            raise PredictionInvalid(
                f"the engine of {artifact.path} has tensors {sorted(names)}, expected {sorted(expected)}"
            )
        for name, (mode, dtype, buffer) in expected.items():
            shape = tuple(engine.get_tensor_shape(name))
            fits = len(shape) == buffer.ndim and all(
                a in (-1, b) for a, b in zip(shape[1:], buffer.shape[1:], strict=True)
            )
            if engine.get_tensor_mode(name) != mode or engine.get_tensor_dtype(name) != dtype or not fits:
                raise PredictionInvalid(
                    f"the engine of {artifact.path} has {name!r} as {engine.get_tensor_dtype(name)} "
                    f"{list(shape)}, its card says {buffer.dtype} {[-1, *buffer.shape[1:]]}"
                )

    def _run(self, n: int) -> None:
        graph = self._graphs.get(n)
        if graph is None:
            graph = self._graphs[n] = self._record(n)
        self._cuda.launch(graph)
        self._cuda.synchronize()

    def _record(self, n: int) -> Any:
        """Make the context of a batch size and record one call of it as a graph."""
        context = self._context(n)
        # Once in earnest: what TensorRT sets up in its first call cannot be recorded.
        self._enqueue(context, n)
        self._cuda.synchronize()
        self._cuda.begin_capture()
        try:
            self._enqueue(context, n)
        except BaseException:
            self._abandon_capture()
            raise
        self._contexts[n] = context
        return self._cuda.end_capture()

    def _abandon_capture(self) -> None:
        # A stream left recording would refuse every later call; the first error is the one worth telling.
        try:
            self._cuda.end_capture()
        except EngineFailed as error:
            logger.debug("after a failed recording: %s", error)

    def _context(self, n: int) -> Any:
        context = self._engine.create_execution_context(
            self._api.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        if context is None:
            raise EngineFailed(f"TensorRT makes no execution context: {self._log.said()}")
        context.set_device_memory(self._workspace, self._workspace_bytes)
        if not context.set_input_shape(INPUT, (n, *self._frames.shape[1:])):
            raise EngineFailed(f"TensorRT refuses a batch of {n}: {self._log.said()}")
        for name, address in self._device.items():
            if not context.set_tensor_address(name, address):
                raise EngineFailed(f"TensorRT refuses the buffer of {name!r}: {self._log.said()}")
        for name, buffer in self._outputs.items():
            shape, expected = tuple(context.get_tensor_shape(name)), buffer[:n].shape
            if shape != expected:
                raise PredictionInvalid(
                    f"the engine answers a batch of {n} with {name!r} of {list(shape)}, its card says "
                    f"{list(expected)}; export the model again"
                )
        return context

    def _enqueue(self, context: Any, n: int) -> None:
        cuda = self._cuda
        cuda.copy_in(self._device[INPUT], self._frames[:n])
        try:
            queued = context.execute_async_v3(int(cuda.stream))
        except Exception as error:  # the binding raises bare RuntimeError
            raise EngineFailed(f"TensorRT failed: {engine_words(error)}; {self._log.said()}") from error
        if not queued:
            raise EngineFailed(f"TensorRT failed: {self._log.said()}")
        for name, buffer in self._outputs.items():
            cuda.copy_out(buffer[:n], self._device[name])

    def _release(self) -> None:
        if self._cuda.stream is None:
            return
        self._cuda.synchronize()
        # Contexts before the engine, the engine before its runtime: that is the order of ownership.
        self._graphs, self._contexts = {}, {}
        self._engine = self._runtime = None
        self._cuda.close()


def engine_key(api: Any, artifact: Artifact, gpu: Gpu, max_batch: int) -> EngineKey:
    """Say what an engine for this model, GPU and TensorRT depends on."""
    return EngineKey(
        artifact=artifact.sha256,
        gpu=gpu.name,
        capability=gpu.capability,
        tensorrt=tensorrt_engine.version(api),
        precision=artifact.card.precision,
        max_batch=max_batch,
    )


def _log_progress(phase: str, done: int, steps: int) -> None:
    if done == steps:
        logger.info("building the engine: %s done", phase)
