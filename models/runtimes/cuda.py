"""NVIDIA's driver through cuda-bindings: memory, a stream and graphs, with errors in words."""

import ctypes
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from models.runtimes.base import EngineFailed, EngineUnavailable

# The driver's control device on Linux, and what stands for it under WSL.
_DRIVER_DEVICES = ("/dev/nvidiactl", "/dev/dxg")


class Gpu(NamedTuple):
    """The GPU an engine is built for and runs on."""

    name: str
    capability: str
    """Compute capability, for instance `9.0`."""


def driver_present() -> bool:
    """Whether there is an NVIDIA driver at all; costs nothing to ask."""
    return any(Path(device).exists() for device in _DRIVER_DEVICES)


class Cuda:
    """Calls of the CUDA runtime whose status is checked; everything allocated is freed by `close`."""

    def __init__(self, api: Any = None) -> None:
        """Take the first GPU.

        :param api: the module `cuda.bindings.runtime`; None: import it.
        :raises EngineUnavailable: if it is not installed or there is no GPU that it can use.
        """
        if api is None:
            try:
                api = import_module("cuda.bindings.runtime")
            except ModuleNotFoundError:
                raise EngineUnavailable(
                    "cuda-bindings is not installed: pip install 'sonostream[tensorrt]'"
                ) from None
        self.api = api
        self._ok = api.cudaError_t.cudaSuccess
        status, *count = api.cudaGetDeviceCount()
        if status != self._ok or not count[0]:
            raise EngineUnavailable(
                f"no NVIDIA GPU that CUDA can use ({getattr(status, 'name', status)}); "
                "install or update NVIDIA's driver, or use another runtime"
            )
        self._host: list[int] = []
        self._device: list[int] = []
        self._graphs: list[Any] = []
        self.stream: Any = None
        self.call("cudaSetDevice", 0)
        # Not the default stream: that one waits for every other.
        self.stream = self.call("cudaStreamCreateWithFlags", api.cudaStreamNonBlocking)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the runtime.

        :return: what it returns beside its status.
        :raises EngineFailed: if the status is not success; names the function and the error.
        """
        status, *values = getattr(self.api, name)(*arguments)
        if status != self._ok:
            _, words = self.api.cudaGetErrorString(status)
            text = words.decode() if isinstance(words, bytes) else str(words)
            raise EngineFailed(f"CUDA failed in {name}: {getattr(status, 'name', status)}, {text}")
        return values[0] if values else None

    def gpu(self) -> Gpu:
        """Name the GPU."""
        properties = self.call("cudaGetDeviceProperties", 0)
        name = properties.name
        return Gpu(
            name.decode().rstrip("\0") if isinstance(name, bytes) else name,
            f"{properties.major}.{properties.minor}",
        )

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Allocate host memory that the GPU reads and writes by itself, as an array of zeros."""
        kind: np.dtype[Any] = np.dtype(dtype)
        size = int(np.prod(shape)) * kind.itemsize
        address = int(self.call("cudaHostAlloc", size, self.api.cudaHostAllocDefault))
        self._host.append(address)
        memory: Any = (ctypes.c_uint8 * size).from_address(address)
        array: NDArray[Any] = np.frombuffer(memory, kind).reshape(shape)
        array.fill(0)
        return array

    def allocate(self, size: int) -> int:
        """Allocate memory of the GPU; its address."""
        address = int(self.call("cudaMalloc", size))
        self._device.append(address)
        return address

    def copy_in(self, device: int, host: NDArray[Any]) -> None:
        """Queue a copy from pinned memory."""
        kind = self.api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", device, host.ctypes.data, host.nbytes, kind, self.stream)

    def copy_out(self, host: NDArray[Any], device: int) -> None:
        """Queue a copy to pinned memory."""
        kind = self.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", host.ctypes.data, device, host.nbytes, kind, self.stream)

    def begin_capture(self) -> None:
        """Record what is queued from now on instead of doing it."""
        # Thread-local: a capture must not forbid other threads of the daemon their own calls.
        mode = self.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", self.stream, mode)

    def end_capture(self) -> Any:
        """End a recording; a graph that `launch` replays."""
        graph = self.call("cudaStreamEndCapture", self.stream)
        try:
            replay = self.call("cudaGraphInstantiate", graph, 0)
        finally:
            self.call("cudaGraphDestroy", graph)
        self._graphs.append(replay)
        return replay

    def launch(self, graph: Any) -> None:
        """Queue a recorded graph."""
        self.call("cudaGraphLaunch", graph, self.stream)

    def synchronize(self) -> None:
        """Wait for everything queued."""
        self.call("cudaStreamSynchronize", self.stream)

    def close(self) -> None:
        """Free everything; pinned arrays must not be used afterwards."""
        if self.stream is None:
            return
        self.synchronize()
        for graph in self._graphs:
            self.call("cudaGraphExecDestroy", graph)
        for address in self._device:
            self.call("cudaFree", address)
        for address in self._host:
            self.call("cudaFreeHost", address)
        self.call("cudaStreamDestroy", self.stream)
        self._graphs, self._device, self._host, self.stream = [], [], [], None
