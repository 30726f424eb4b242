"""Engines that run an exported model: one file each, imported when first asked for.

A new engine is a file with a `Session`, a `precisions()` and a `VERSION`, and a row in `ENGINES`.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from models.artifact import Artifact, load_artifact
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

__all__ = [
    "ENGINES",
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
    "load",
]


class Engine(NamedTuple):
    """Where an engine's session is, and what it needs."""

    session: str
    """`module:class`, imported when first used: an engine that is absent costs nothing but itself."""
    package: str
    """What it imports."""
    install: str
    """The command that installs it."""


# `auto` takes the first that is usable. Fastest first: in bf16 OpenVINO is 2 to 7 times as fast as the next.
ENGINES: dict[str, Engine] = {
    "openvino": Engine("models.runtimes.openvino:OpenVinoSession", "openvino", "pip install openvino"),
    "onnxruntime": Engine(
        "models.runtimes.onnxruntime:OnnxRuntimeSession", "onnxruntime", "pip install onnxruntime"
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
) -> Session:
    """Load a model into an engine.

    :param model: an artifact, the path of one, or a name from the zoo.
    :param runtime: a key of `ENGINES`, or `auto`: the first that is usable.
    :param precision: what to compute in; `auto` is the fastest that the processor has instructions for.
    :param threads: None: one for each physical core that this process may use.
    :param max_batch: most frames in one call.
    :param cache_dir: where an engine may keep compiled models for the next start; None: nowhere.
    :raises ArtifactError: if the file is not a model that can be run.
    :raises EngineUnavailable: if the engine is unknown, not installed, or lacks the precision.
    :raises EngineFailed: if the engine refuses the model.
    """
    artifact = model if isinstance(model, Artifact) else load_artifact(model)
    name = choose(runtime)
    _, _, class_name = ENGINES[name].session.partition(":")
    session: Callable[..., Session] = getattr(_import(name), class_name)
    return session(artifact, precision=precision, threads=threads, max_batch=max_batch, cache_dir=cache_dir)


def choose(runtime: str = "auto") -> str:
    """Name the engine that `load` would take.

    :raises EngineUnavailable: if there is no such engine, or `auto` and none is usable.
    """
    if runtime in ENGINES:
        return runtime
    if runtime != "auto":
        raise EngineUnavailable(f"no runtime named {runtime!r}; known are: auto, {', '.join(ENGINES)}")
    problems = []
    for name in ENGINES:
        try:
            _import(name)
        except EngineUnavailable as error:
            problems.append(str(error))
        else:
            return name
    raise EngineUnavailable("no engine is usable: " + "; ".join(problems))


def available() -> list[RuntimeStatus]:
    """Say of every known engine whether it can be used here."""
    statuses = []
    for name, engine in ENGINES.items():
        try:
            module = _import(name)
        except EngineUnavailable as error:
            statuses.append(RuntimeStatus(name, False, "", (), str(error), engine.install))
        else:
            precisions = tuple(module.precisions())
            statuses.append(RuntimeStatus(name, True, module.VERSION, precisions, "", engine.install))
    return statuses


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
