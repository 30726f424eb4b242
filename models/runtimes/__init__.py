"""Engines that run an exported model: one file each, imported when first asked for.

A new engine is a file with a `Session`, a `precisions()` and a `VERSION`, and a row in `ENGINES`.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, cast

from models.artifact import Artifact, load_artifact
from models.runtimes import cpu
from models.runtimes.base import (
    EngineError,
    EngineFailed,
    EngineUnavailable,
    FramesInvalid,
    Precision,
    Prediction,
    PredictionInvalid,
    RuntimeDescription,
    Session,
)
from models.runtimes.choice import Candidate, Choice, choose_fastest, recall, remember

__all__ = [
    "ENGINES",
    "Choice",
    "EngineError",
    "EngineFailed",
    "EngineUnavailable",
    "FramesInvalid",
    "Precision",
    "Prediction",
    "PredictionInvalid",
    "RuntimeDescription",
    "RuntimeStatus",
    "Session",
    "available",
    "choose_for",
    "load",
]

# Importing OpenVINO forks a process that reports to Google Analytics, unless this package is missing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


class Engine(NamedTuple):
    """Where an engine's session is, and what it needs."""

    session: str
    """`module:class`, imported when first used: an engine that is absent costs nothing but itself."""
    package: str
    """What it imports."""
    install: str
    """The command that installs it."""
    reads: Literal["artifact", "checkpoint", "server"] = "artifact"
    """What it needs beside a card: the .onnx file, a checkpoint of training, or a server's address. `auto`
    chooses among those that need the file."""


# Fastest first, more often than not; `auto` measures.
ENGINES: dict[str, Engine] = {
    "tensorrt": Engine(
        "models.runtimes.tensorrt:TensorRtSession", "tensorrt", "pip install 'sonostream[tensorrt]'"
    ),
    "openvino": Engine("models.runtimes.openvino:OpenVinoSession", "openvino", "pip install openvino"),
    "onnxruntime": Engine(
        "models.runtimes.onnxruntime:OnnxRuntimeSession", "onnxruntime", "pip install onnxruntime"
    ),
    "torch": Engine(
        "models.runtimes.torch:TorchSession", "torch", "pip install 'sonostream[train]'", "checkpoint"
    ),
    "kserve": Engine(
        "models.runtimes.kserve:KServeSession", "tritonclient", "pip install 'sonostream[kserve]'", "server"
    ),
}


class RuntimeStatus(NamedTuple):
    """Whether an engine can be used on this machine."""

    name: str
    usable: bool
    version: str
    """Empty if it is not usable."""
    precisions: tuple[str, ...]
    """What it computes in here, fastest first."""
    reason: str
    """Why it is not usable, or empty."""
    install: str
    """The command that installs it."""


def load(
    model: Artifact | str | Path,
    runtime: str = "auto",
    *,
    precision: Precision = "auto",
    threads: int | None = None,
    max_batch: int = 1,
    cache_dir: Path | None = None,
    server: str | None = None,
) -> Session:
    """Load a model into an engine.

    :param model: an artifact, the path of one, or a name from the zoo; for `torch` the path of a checkpoint.
    :param runtime: a key of `ENGINES`, or `auto`: TensorRT where there is a GPU for it, else whichever engine
        and precision was measured to be fastest on this machine (see `choice`).
    :param precision: what to compute in; `auto` is the fastest that the processor has instructions for.
    :param threads: None: one for each physical core that this process may use.
    :param max_batch: most frames in one call.
    :param cache_dir: where compiled models and choices are kept for the next start; None: nowhere.
    :param server: for `kserve`: `host:port` or `host:port/model`; the model's own name if left out.
    :raises ArtifactError: if the file is not a model that can be run.
    :raises EngineUnavailable: if the engine is unknown, not installed, or lacks the precision.
    :raises EngineFailed: if the engine refuses the model.
    """
    if runtime == "torch" and not isinstance(model, Artifact):
        given: Any = Path(model)
    else:
        given = model if isinstance(model, Artifact) else load_artifact(model)
    if runtime == "auto":
        choice = choose_for(given, precision=precision, threads=threads, cache_dir=cache_dir)
        # Only what was measured is certain to be what runs.
        runtime, precision = choice.runtime, cast(Precision, choice.precision)
    name = choose(runtime)
    options: dict[str, Any] = {"server": server} if name == "kserve" else {}
    return _session(name)(
        given, precision=precision, threads=threads, max_batch=max_batch, cache_dir=cache_dir, **options
    )


def choose_for(
    artifact: Artifact,
    *,
    precision: Precision = "auto",
    threads: int | None = None,
    cache_dir: Path | None = None,
) -> Choice:
    """Say which engine and precision `auto` takes for a model; measures once, for about two seconds.

    :param artifact: the model.
    :param precision: `auto`, or the only one to consider.
    :param threads: None: one for each physical core that this process may use.
    :param cache_dir: where choices are kept; None: in this process only.
    :raises EngineUnavailable: if no engine is usable, or none has that precision.
    :raises EngineError: if none of them can run the model.
    """
    cores = threads or cpu.usable_cores()
    installed = None if cache_dir is None else _installed()
    asked = [precision, cores, installed]
    if installed and (known := recall(artifact, asked, cache_dir)) is not None:
        return known
    statuses = [status for status in available(automatic=True) if status.usable]
    if not statuses:
        choose("auto")  # says what is wrong with each
    if statuses[0].name == "tensorrt":
        if precision in ("auto", artifact.card.precision) and artifact.card.quantization != "cpu":
            return Choice("tensorrt", precision)
        del statuses[0]
    candidates = [
        Candidate(status.name, status.version, each)
        for status in statuses
        for each in status.precisions
        if precision in ("auto", each)
    ]
    if not candidates:
        had = ", ".join(f"{status.name}: {', '.join(status.precisions)}" for status in statuses)
        raise EngineUnavailable(
            f"precision {precision!r}: no engine here computes in it; use precision auto ({had})"
        )

    def load_one(candidate: Candidate) -> Session:
        narrow = cast(Precision, candidate.precision)
        return _session(candidate.runtime)(
            artifact, precision=narrow, threads=threads, max_batch=1, cache_dir=cache_dir
        )

    choice = choose_fastest(artifact, candidates, load_one, threads=cores, cache_dir=cache_dir)
    if installed:
        remember(artifact, asked, cache_dir, choice)
    return choice


def choose(runtime: str = "auto") -> str:
    """Name the engine that is taken where nothing is measured: the first that is usable.

    :raises EngineUnavailable: if there is no such engine, or `auto` and none is usable.
    """
    if runtime in ENGINES:
        return runtime
    if runtime != "auto":
        raise EngineUnavailable(f"no runtime named {runtime!r}; known are: auto, {', '.join(ENGINES)}")
    statuses = available(automatic=True)
    for status in statuses:
        if status.usable:
            return status.name
    raise EngineUnavailable("no engine is usable: " + "; ".join(status.reason for status in statuses))


def available(*, automatic: bool = False) -> list[RuntimeStatus]:
    """Say of every known engine whether it can be used here.

    :param automatic: only of those that `auto` chooses from.
    """
    statuses = []
    for name, engine in ENGINES.items():
        if automatic and engine.reads != "artifact":
            continue
        try:
            module = _import(name)
            precisions = tuple(module.precisions())
        except EngineUnavailable as error:
            statuses.append(RuntimeStatus(name, False, "", (), str(error), engine.install))
        else:
            statuses.append(RuntimeStatus(name, True, module.VERSION, precisions, "", engine.install))
    return statuses


def _installed() -> list[tuple[str, str]] | None:
    """Name the engines that `auto` chooses from and their versions, without importing them.

    :return: None if that cannot be known, or a GPU must be asked.
    """
    found = []
    for engine in ENGINES.values():
        if engine.reads != "artifact" or not _is_there(engine.package):
            continue
        try:
            found.append((engine.package, version(engine.package)))
        except PackageNotFoundError:
            return None
        if engine.package == "tensorrt":
            return None
    return found


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ImportError:
        return False


def _session(name: str) -> Callable[..., Session]:
    _, _, class_name = ENGINES[name].session.partition(":")
    session: Callable[..., Session] = getattr(_import(name), class_name)
    return session


def _import(name: str) -> ModuleType:
    engine = ENGINES[name]
    module, _, _ = engine.session.partition(":")
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != engine.package:
            raise
        raise EngineUnavailable(f"{name} is not installed: {engine.install}") from None
    except ImportError as error:  # a library of the system is missing or too old
        raise EngineUnavailable(f"{name} is installed but does not load: {error}") from error
