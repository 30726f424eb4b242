# ruff: noqa: N815 - the names are NVIDIA's
"""Stand-ins for TensorRT and the CUDA runtime that hold a caller to their rules.

Memory is real: a copy to the wrong address or of the wrong size shows. What is queued while a stream records
is not done. The engine computes what the tiny model does.
"""

import ctypes
import enum
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from tests.models.tiny import CLASSES, HEIGHT, WIDTH, expected


class Status(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorNoDevice = 100


class Kind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class Mode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


class FakeCuda:
    """The functions of `cuda.bindings.runtime` that are used; each returns a status, then values."""

    cudaError_t = Status
    cudaMemcpyKind = Kind
    cudaStreamCaptureMode = Mode
    cudaHostAllocDefault = 0
    cudaStreamNonBlocking = 1

    def __init__(
        self, *, name: str = "NVIDIA Test", capability: tuple[int, int] = (9, 0), count: int = 1
    ) -> None:
        self.properties = SimpleNamespace(name=name.encode(), major=capability[0], minor=capability[1])
        self.count = count
        self.host: dict[int, Any] = {}
        self.device: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.graphs: set[int] = set()
        self.recording: list[Any] | None = None
        self.queue: list[Any] = []
        self.launches = 0
        self.fail_next: Status | None = None
        self._handle = 7
        self._recorded: dict[int, list[Any]] = {}

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:  # noqa: N802
        return (Status.cudaSuccess, self.count) if self.count else (Status.cudaErrorNoDevice, None)

    def cudaGetErrorString(self, status: Status) -> tuple[Any, ...]:  # noqa: N802
        return Status.cudaSuccess, status.name.removeprefix("cudaError").encode()

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:  # noqa: N802
        return (Status.cudaSuccess if device < self.count else Status.cudaErrorInvalidValue,)

    def cudaGetDeviceProperties(self, _device: int) -> tuple[Any, ...]:  # noqa: N802
        return Status.cudaSuccess, self.properties

    def cudaStreamCreateWithFlags(self, _flags: int) -> tuple[Any, ...]:  # noqa: N802
        self._handle += 1
        self.streams.add(self._handle)
        return Status.cudaSuccess, self._handle

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:  # noqa: N802
        self.streams.remove(stream)
        return (Status.cudaSuccess,)

    def _allocate(self, where: dict[int, Any], size: int) -> tuple[Any, ...]:
        if self.recording is not None:
            return Status.cudaErrorStreamCaptureUnsupported, None
        memory = (ctypes.c_uint8 * size)(*([0xAA] * min(size, 16)))
        where[ctypes.addressof(memory)] = memory
        return Status.cudaSuccess, ctypes.addressof(memory)

    def cudaHostAlloc(self, size: int, _flags: int) -> tuple[Any, ...]:  # noqa: N802
        return self._allocate(self.host, size)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:  # noqa: N802
        return self._allocate(self.device, size)

    def cudaFree(self, address: int) -> tuple[Any, ...]:  # noqa: N802
        del self.device[address]
        return (Status.cudaSuccess,)

    def cudaFreeHost(self, address: int) -> tuple[Any, ...]:  # noqa: N802
        del self.host[address]
        return (Status.cudaSuccess,)

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: Kind, stream: int) -> tuple[Any, ...]:  # noqa: N802
        if self.fail_next is not None:
            status, self.fail_next = self.fail_next, None
            return (status,)
        device, host = (to, source) if kind == Kind.cudaMemcpyHostToDevice else (source, to)
        pinned = any(start <= host < start + len(memory) for start, memory in self.host.items())
        if device not in self.device or len(self.device[device]) < size or not pinned:
            return (Status.cudaErrorInvalidValue,)
        self.enqueue(stream, lambda: ctypes.memmove(to, source, size))
        return (Status.cudaSuccess,)

    def enqueue(self, stream: int, work: Any) -> None:
        assert stream in self.streams, "queued on a stream that is not there"
        (self.queue if self.recording is None else self.recording).append(work)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:  # noqa: N802
        assert stream in self.streams
        if self.recording is not None:
            return (Status.cudaErrorStreamCaptureUnsupported,)
        for work in self.queue:
            work()
        self.queue = []
        return (Status.cudaSuccess,)

    def cudaStreamBeginCapture(self, _stream: int, _mode: Mode) -> tuple[Any, ...]:  # noqa: N802
        assert self.recording is None
        self.recording = []
        return (Status.cudaSuccess,)

    def cudaStreamEndCapture(self, _stream: int) -> tuple[Any, ...]:  # noqa: N802
        assert self.recording is not None
        self._handle += 1
        self._recorded[self._handle], self.recording = self.recording, None
        return Status.cudaSuccess, self._handle

    def cudaGraphInstantiate(self, graph: int, _flags: int) -> tuple[Any, ...]:  # noqa: N802
        self._handle += 1
        self._recorded[self._handle] = self._recorded[graph]
        self.graphs.add(self._handle)
        return Status.cudaSuccess, self._handle

    def cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:  # noqa: N802
        del self._recorded[graph]
        return (Status.cudaSuccess,)

    def cudaGraphExecDestroy(self, graph: int) -> tuple[Any, ...]:  # noqa: N802
        self.graphs.remove(graph)
        return (Status.cudaSuccess,)

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[Any, ...]:  # noqa: N802
        assert graph in self.graphs
        self.launches += 1
        for work in self._recorded[graph]:
            self.enqueue(stream, work)
        return (Status.cudaSuccess,)


class DataType(enum.Enum):
    UINT8 = 1
    FLOAT = 2


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class Strategy(enum.Enum):
    STATIC = 1
    USER_MANAGED = 2


_SHAPES = {"frame": (-1, HEIGHT, WIDTH, 1), "lesion": (-1, HEIGHT, WIDTH), "classes": (-1, len(CLASSES))}
_WORKSPACE = 4096


class ILogger:
    Severity: ClassVar[Any] = enum.Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")

    def log(self, level: Any, message: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    pass


class Context:
    def __init__(self, api: "FakeTensorRt", max_batch: int) -> None:
        self.api, self.max_batch = api, max_batch
        self.batch, self.addresses, self.has_memory, self.ran = 0, {}, False, False

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size >= _WORKSPACE
        assert len(self.api.cuda.device[memory]) >= size
        self.has_memory = True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if name != "frame" or tuple(shape[1:]) != _SHAPES["frame"][1:] or not 1 <= shape[0] <= self.max_batch:
            self.api.say("setInputShape: outside the optimization profile")
            return False
        self.batch = shape[0]
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        if name not in _SHAPES or address not in self.api.cuda.device:
            return False
        self.addresses[name] = address
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.batch, *_SHAPES[name][1:])

    def execute_async_v3(self, stream: int) -> bool:
        cuda = self.api.cuda
        assert isinstance(stream, int)
        assert self.has_memory, "executed without device memory"
        assert set(self.addresses) == set(_SHAPES), "executed with addresses missing"
        assert self.batch, "executed without a shape"
        if self.api.refuse_to_run:
            self.api.say("enqueueV3: the device is lost")
            return False
        if cuda.recording is not None:
            assert self.ran, "recorded before the first call"
        self.ran = True
        cuda.enqueue(stream, lambda n=self.batch: self._compute(n))
        return True

    def _compute(self, n: int) -> None:
        def at(name: str, kind: Any) -> Any:
            shape = (n, *_SHAPES[name][1:])
            memory = (ctypes.c_uint8 * int(np.prod(shape) * np.dtype(kind).itemsize)).from_address(
                self.addresses[name]
            )
            return np.frombuffer(memory, kind).reshape(shape)

        at("lesion", np.uint8)[:], at("classes", np.float32)[:] = expected(at("frame", np.uint8))


class Engine:
    num_io_tensors = 3
    device_memory_size_v2 = _WORKSPACE

    def __init__(self, api: "FakeTensorRt", max_batch: int) -> None:
        self.api, self.max_batch = api, max_batch

    def get_tensor_name(self, at: int) -> str:
        return list(self.api.shapes)[at]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "frame" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.FLOAT if name == "classes" else DataType.UINT8

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.api.shapes[name]

    def create_execution_context(self, strategy: Strategy) -> Context:
        assert strategy is Strategy.USER_MANAGED
        context = Context(self.api, self.max_batch)
        self.api.contexts.append(context)
        return context


class FakeTensorRt:
    """The module `tensorrt`, as far as it is used."""

    __name__ = "tensorrt"
    DataType = DataType
    TensorIOMode = TensorIOMode
    ExecutionContextAllocationStrategy = Strategy
    ILogger = ILogger
    IProgressMonitor = IProgressMonitor

    def __init__(self, cuda: FakeCuda, *, version: str = "11.4.0") -> None:
        self.__version__ = version
        self.cuda = cuda
        self.shapes = dict(_SHAPES)
        self.builds = 0
        self.contexts: list[Context] = []
        self.logger: Any = None
        self.building: Any = None
        self.refuse_to_load = self.refuse_to_run = self.refuse_to_parse = self.refuse_to_build = False
        self.timings: list[bytes] = []

    def say(self, message: str) -> None:
        assert self.logger is not None
        self.logger.log(ILogger.Severity.ERROR, message)

    @property
    def _mark(self) -> bytes:
        return f"{self.__version__}|{self.cuda.properties.name.decode()}|".encode()

    def Runtime(self, logger: Any) -> Any:  # noqa: N802
        self.logger = logger

        def deserialize(plan: bytes) -> Engine | None:
            if self.refuse_to_load or not plan.startswith(b"plan|" + self._mark):
                self.say("deserializeCudaEngine: serialization assertion failed")
                return None
            return Engine(self, int(plan.rpartition(b"|")[2]))

        return SimpleNamespace(deserialize_cuda_engine=deserialize)

    def Builder(self, logger: Any) -> Any:  # noqa: N802
        self.building = logger

        def build(network: Any, config: Any) -> bytes | None:
            assert network.parsed
            (profile,) = config.profiles
            if self.refuse_to_build:
                self.building.log(ILogger.Severity.ERROR, "no implementation for node /conv1")
                return None
            self.builds += 1
            if config.progress_monitor is not None:
                config.progress_monitor.phase_start("Building", None, 2)
                assert config.progress_monitor.step_complete("Building", 0) is True
                config.progress_monitor.phase_finish("Building")
            least, best, most = profile.shapes["frame"]
            assert least[0] == 1
            assert least <= best <= most
            return b"plan|" + self._mark + str(most[0]).encode()

        return SimpleNamespace(
            create_network=self._network,
            create_builder_config=self._config,
            create_optimization_profile=self._profile,
            build_serialized_network=build,
        )

    def _network(self, flags: int) -> Any:
        assert flags == 0, "TensorRT 11 has no such flags"
        return SimpleNamespace(parsed=False)

    def _profile(self) -> Any:
        shapes: dict[str, Any] = {}
        return SimpleNamespace(
            shapes=shapes, set_shape=lambda name, *ranges: shapes.__setitem__(name, ranges)
        )

    def _config(self) -> Any:
        config = SimpleNamespace(profiles=[], progress_monitor=None)
        config.add_optimization_profile = lambda profile: config.profiles.append(profile) or 0

        def create(data: bytes) -> Any:
            if data and not data.startswith(b"timings"):
                return None
            self.timings.append(data)
            return SimpleNamespace(serialize=lambda: b"timings of this GPU")

        config.create_timing_cache = create
        config.set_timing_cache = lambda cache, mismatch: setattr(config, "cache", cache) or not mismatch
        config.get_timing_cache = lambda: config.cache
        return config

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802, ARG002
        def parse(data: bytes) -> bool:
            network.parsed = bool(data) and not self.refuse_to_parse
            return network.parsed

        return SimpleNamespace(
            parse=parse, num_errors=1, get_error=lambda _: "In node 4 (Transpose): UINT8 is not supported"
        )
