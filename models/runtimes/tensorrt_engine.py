"""Builds TensorRT engines from artifacts and keeps them.

Written on what `tensorrt` 11 and `tensorrt_rtx` share. Networks are strongly typed in both: precision is a
property of the artifact, never a flag of the builder.
"""

import hashlib
import json
import logging
import os
import struct
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from models.artifact import INPUT, Artifact
from models.runtimes.base import EngineFailed, EngineUnavailable

logger = logging.getLogger(__name__)

_MAGIC = b"SONOTRT1"
_LENGTH = struct.Struct("<I")
_MAX_KEY_BYTES = 4096
_DIGEST_BYTES = 32
_QUOTED_LINES = 5


class EngineKey(NamedTuple):
    """Everything that an engine depends on; with another value of any, it must be built anew."""

    artifact: str
    """SHA-256 of the file."""
    gpu: str
    capability: str
    tensorrt: str
    """Package and version."""
    precision: str
    max_batch: int
    """The profile covers 1 to this many frames."""

    @property
    def digest(self) -> str:
        """A file name."""
        return hashlib.sha256(json.dumps(self).encode()).hexdigest()[:40]


Progress = Callable[[str, int, int], None]
"""Called with the phase, its steps done and its number of steps."""


def import_api() -> ModuleType:
    """Import TensorRT 11, or TensorRT-RTX where that is what is installed.

    :raises EngineUnavailable: if neither is, or TensorRT is older.
    """
    for name in ("tensorrt", "tensorrt_rtx"):
        try:
            api = import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise EngineUnavailable(f"{name} is installed but does not load: {error}") from error
            continue
        except Exception as error:  # a library is missing, too old, or refuses the machine
            raise EngineUnavailable(f"{name} is installed but does not load: {error}") from error
        if name == "tensorrt" and int(api.__version__.partition(".")[0]) < 11:
            raise EngineUnavailable(
                f"TensorRT {api.__version__} is too old, 11 is needed: pip install 'sonostream[tensorrt]'"
            )
        return api
    raise EngineUnavailable("tensorrt is not installed: pip install 'sonostream[tensorrt]'")


def version(api: Any) -> str:
    """Package and version, as the key of an engine has it."""
    return f"{api.__name__} {api.__version__}"


class Log:
    """Collects what TensorRT says; its last words go into errors."""

    def __init__(self, api: Any) -> None:
        """Make a logger of the binding's own kind, `sink`."""
        self.lines: list[str] = []
        lines = self.lines
        severity = api.ILogger.Severity
        serious = (severity.INTERNAL_ERROR, severity.ERROR, severity.WARNING)

        class Sink(api.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                api.ILogger.__init__(self)

            def log(self, level: Any, message: str) -> None:
                if level in serious:
                    lines.append(" ".join(message.split()))
                    del lines[:-50]
                logger.debug("TensorRT: %s", message)

        self.sink = Sink()

    def said(self) -> str:
        """Its last lines as one, for an error."""
        return "; ".join(self.lines[-_QUOTED_LINES:])[:1500] or "it gave no reason"


def build(
    api: Any,
    artifact: Artifact,
    *,
    max_batch: int,
    timing_cache: Path | None = None,
    progress: Progress | None = None,
    capability: tuple[int, int] | None = None,
) -> bytes:
    """Build an engine; takes seconds to minutes.

    :param api: the binding.
    :param artifact: the model; its graph says what is computed in which precision.
    :param max_batch: the profile covers 1 to this many frames and is tuned for all of them.
    :param timing_cache: file of measured kernels, read and written; None: none.
    :param progress: told of every step.
    :param capability: compute capability to build for, where the package can build without that GPU
        (TensorRT-RTX); None: the GPU at hand.
    :raises EngineFailed: if the parser or the builder refuses the graph; with their own words.
    """
    log = Log(api)
    builder = api.Builder(log.sink)
    if builder is None:
        raise EngineFailed(f"TensorRT has no builder: {log.said()}")
    network = builder.create_network(0)
    parser = api.OnnxParser(network, log.sink)
    try:
        data = artifact.path.read_bytes()
    except OSError as error:
        raise EngineFailed(f"cannot read {artifact.path}: {error.strerror or error}") from None
    if not parser.parse(data):
        problems = "; ".join(str(parser.get_error(at)) for at in range(parser.num_errors))
        raise EngineFailed(
            f"TensorRT cannot read {artifact.path}: {' '.join(problems.split())[:1500] or log.said()}"
        )
    config = builder.create_builder_config()
    if capability is not None:
        _aim(api, config, capability)
    size = artifact.card.input
    frame = (size.height, size.width, size.channels)
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, (1, *frame), (max_batch, *frame), (max_batch, *frame))
    if config.add_optimization_profile(profile) < 0:
        raise EngineFailed(f"TensorRT refuses batches of 1 to {max_batch}: {log.said()}")
    # TensorRT-RTX measures kernels when it first runs them, not when it builds, and deprecates the calls.
    timing_cache = timing_cache if api.__name__ == "tensorrt" else None
    if timing_cache is not None:
        _load_timings(config, timing_cache)
    if progress is not None:
        config.progress_monitor = _monitor(api, progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineFailed(f"TensorRT cannot build an engine of {artifact.path}: {log.said()}")
    if timing_cache is not None:
        _keep_timings(config, timing_cache)
    return bytes(plan)


def _aim(api: Any, config: Any, capability: tuple[int, int]) -> None:
    name = f"SM{capability[0]}{capability[1]}"
    if not hasattr(config, "set_compute_capability"):
        raise EngineUnavailable(f"{api.__name__} builds for the GPU at hand only, not for {name}")
    if not hasattr(api.ComputeCapability, name):
        raise EngineUnavailable(f"{api.__name__} does not build for compute capability {name}")
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(getattr(api.ComputeCapability, name), 0):
        raise EngineUnavailable(f"{api.__name__} refuses to build for compute capability {name}")


def _load_timings(config: Any, file: Path) -> None:
    data = file.read_bytes() if file.is_file() else b""
    cache = config.create_timing_cache(data)
    if cache is None and data:  # damaged, or of another version: start anew
        logger.warning("%s cannot be used and is written anew", file)
        cache = config.create_timing_cache(b"")
    # Kernels measured on another GPU are no measurement: mismatches are refused.
    if cache is not None and not config.set_timing_cache(cache, False):
        empty = config.create_timing_cache(b"")
        if empty is not None:
            config.set_timing_cache(empty, False)


def _keep_timings(config: Any, file: Path) -> None:
    cache = config.get_timing_cache()
    data = None if cache is None else cache.serialize()
    if data is not None:
        write(file, bytes(data))


def _monitor(api: Any, progress: Progress) -> Any:
    class Monitor(api.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            api.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            self.steps[phase_name] = num_steps
            progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, step + 1, self.steps.get(phase_name, step + 1))
            return True  # false would cancel the build

        def phase_finish(self, phase_name: str) -> None:
            done = self.steps.pop(phase_name, 0)
            progress(phase_name, done, done)

    return Monitor()


def path_of(folder: Path, key: EngineKey) -> Path:
    """Where an engine is kept."""
    return folder / "tensorrt" / f"{key.digest}.engine"


def timings_of(folder: Path, key: EngineKey) -> Path:
    """Where the timings of a GPU and version are kept; all models share them."""
    digest = hashlib.sha256(json.dumps([key.gpu, key.capability, key.tensorrt]).encode()).hexdigest()[:16]
    return folder / "tensorrt" / f"timings-{digest}.cache"


def read(file: Path, key: EngineKey) -> bytes | None:
    """Read a kept engine.

    :return: the engine; None if there is none that is whole and was built for exactly this key.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("%s cannot be read (%s); the engine is built again", file, error.strerror or error)
        return None
    built_for, plan = _unpack(data)
    if plan is None:
        logger.warning("%s is damaged; the engine is built again", file)
        return None
    if built_for != key:
        logger.warning(
            "%s was built for %s with %s, not for %s with %s; it is built again",
            *(file, built_for.gpu, built_for.tensorrt, key.gpu, key.tensorrt)
            if built_for
            else (file, "something else", "?", key.gpu, key.tensorrt),
        )
        return None
    return plan


def pack(plan: bytes, key: EngineKey) -> bytes:
    """Put what an engine was built for, and a checksum, before it."""
    said = json.dumps(key).encode()
    return _MAGIC + _LENGTH.pack(len(said)) + said + hashlib.sha256(said + plan).digest() + plan


def _unpack(data: bytes) -> tuple[EngineKey | None, bytes | None]:
    start = len(_MAGIC) + _LENGTH.size
    if len(data) < start or not data.startswith(_MAGIC):
        return None, None
    (length,) = _LENGTH.unpack_from(data, len(_MAGIC))
    if length > _MAX_KEY_BYTES or len(data) < start + length + _DIGEST_BYTES:
        return None, None
    said, digest = data[start : start + length], data[start + length : start + length + _DIGEST_BYTES]
    plan = data[start + length + _DIGEST_BYTES :]
    if hashlib.sha256(said + plan).digest() != digest:
        return None, None
    try:
        return EngineKey(*json.loads(said)), plan
    except (ValueError, TypeError):  # whole, but of another version of ours
        return None, plan


def write(file: Path, data: bytes) -> None:
    """Keep a file for the next start; at every instant it is whole or absent. Failing is a warning."""
    partial = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(file)
    except OSError as error:
        logger.warning("%s is not kept for the next start: %s", file, error.strerror or error)
