"""What this machine has: engines, accelerators, capture devices, decoders, packages and the default model."""

import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import av
import msgspec

from models.artifact import ArtifactError, load_artifact
from models.ladder import Ladder, climb
from models.runtimes import EngineError, EngineUnavailable, available, choose, choose_for, cpu
from streamer.capture_devices import CaptureDevice, capture_devices
from streamer.daemon import ASSUMED_FPS, cache_directory

# Name people know -> the decoders that do it, any of which will do. FFmpeg's own `av1` needs a GPU.
DECODERS = {
    "h264": ("h264",),
    "hevc": ("hevc",),
    "mpeg2video": ("mpeg2video",),
    "mjpeg": ("mjpeg",),
    "vp9": ("vp9", "libvpx-vp9"),
    "av1": ("libdav1d", "libaom-av1"),
    "ffv1": ("ffv1",),
}
# Kind of source -> libavformat's name for its input format.
_FORMATS = {"v4l2": "video4linux2,v4l2", "x11grab": "x11grab", "lavfi": "lavfi", "rtsp": "rtsp"}
_PROTOCOLS = ("udp", "tcp", "srt")

_PURPOSES = {
    "train": "train, evaluate and export networks",
    "tensorrt": "run models on NVIDIA GPUs",
    "kserve": "send frames to a model server",
    "formats": "read DICOM, record and extract (MCAP, DICOM Segmentation, Parquet)",
}
_FOR_DEVELOPERS = "dev"


@dataclass(frozen=True, slots=True)
class Machine:
    """The computer and the program."""

    sonostream: str
    python: str
    system: str
    processor: str
    instruction_sets: tuple[str, ...]
    usable_cores: int


@dataclass(frozen=True, slots=True)
class EngineReport:
    """One engine that can run models."""

    name: str
    usable: bool
    version: str
    precisions: tuple[str, ...]
    """What it computes in here, fastest first."""
    problem: str
    install: str


@dataclass(frozen=True, slots=True)
class AutoChoice:
    """What `runtime = "auto"` takes on this machine."""

    engine: str | None
    precision: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A GPU."""

    name: str
    driver: str


@dataclass(frozen=True, slots=True)
class Input:
    """One kind of device or network stream."""

    name: str
    usable: bool
    by: str
    """What reads it; empty if nothing does."""
    install: str
    """What to do if it is not usable."""


@dataclass(frozen=True, slots=True)
class Package:
    """A Python package of an extra."""

    name: str
    extra: str
    version: str | None
    """None if it is not installed."""
    purpose: str
    install: str


@dataclass(frozen=True, slots=True)
class DefaultModel:
    """The model that is used unless another is named."""

    problem: str
    """Why it cannot be used; empty if it can."""
    path: str | None = None
    sha256: str | None = None
    card: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything `sonostream doctor` found."""

    machine: Machine
    engines: tuple[EngineReport, ...]
    auto: AutoChoice
    accelerators: tuple[Accelerator, ...]
    capture_devices: tuple[CaptureDevice, ...]
    pyav: str
    ffmpeg: str
    decoders: dict[str, bool]
    inputs: tuple[Input, ...]
    packages: tuple[Package, ...]
    model: DefaultModel
    ladder: Ladder | None = None
    """The models that ship, and the one that `model.artifact = "auto"` takes; None if none can be run."""


def collect() -> Report:
    """Look at this machine; no device is started, and nothing is kept but how fast engines are."""
    engines = tuple(
        EngineReport(
            status.name, status.usable, status.version, status.precisions, status.reason, status.install
        )
        for status in available()
    )
    return Report(
        machine=Machine(
            sonostream=_version("sonostream") or "not installed as a package",
            python=platform.python_version(),
            system=f"{platform.system()} {platform.release()}",
            processor=cpu.name(),
            instruction_sets=tuple(cpu.notable_flags()),
            usable_cores=cpu.usable_cores(),
        ),
        engines=engines,
        auto=_auto(engines),
        accelerators=tuple(nvidia_gpus()),
        capture_devices=tuple(capture_devices()),
        pyav=av.__version__,
        ffmpeg=getattr(av, "ffmpeg_version_info", "unknown"),
        decoders={
            name: any(codec in av.codecs_available for codec in codecs) for name, codecs in DECODERS.items()
        },
        inputs=tuple(_inputs()),
        packages=tuple(optional_packages(_requirements())),
        model=_default_model(),
        ladder=_ladder(),
    )


def _ladder() -> Ladder | None:
    try:
        return climb(fps=ASSUMED_FPS, cache_dir=cache_directory())[1]
    except (ArtifactError, EngineError):
        return None  # the engines and the default model say why


def _auto(engines: tuple[EngineReport, ...]) -> AutoChoice:
    """Say what `auto` takes for the default model, measured if it has not been; else what comes first."""
    try:
        choice = choose_for(load_artifact("default"), cache_dir=cache_directory())
    except (ArtifactError, EngineError):
        return _first(engines)
    return AutoChoice(choice.runtime, choice.precision, choice.reason)


def _first(engines: tuple[EngineReport, ...]) -> AutoChoice:
    try:
        chosen = choose("auto")
    except EngineUnavailable as error:
        return AutoChoice(None, None, str(error))
    engine = next(engine for engine in engines if engine.name == chosen)
    reason = "the first that is usable; measured once there is a model"
    if engine.precisions[0] == "bf16":
        reason += "; bf16, because this processor has instructions for it"
    elif "fp32" in engine.precisions[0]:
        reason += "; fp32, because nothing narrower is fast here"
    return AutoChoice(chosen, engine.precisions[0], reason)


def nvidia_gpus(driver: Path = Path("/proc/driver/nvidia")) -> list[Accelerator]:
    """List NVIDIA's GPUs: as the driver describes them, or as nvidia-smi does.

    :param driver: the folder where the driver describes itself.
    """
    words = _read(driver / "version").split()
    release = next((word for word in words if re.fullmatch(r"\d+\.\d+(\.\d+)?", word)), "unknown")
    listed = [
        Accelerator(line.partition(":")[2].strip(), release)
        for information in sorted(driver.glob("gpus/*/information"))
        for line in _read(information).splitlines()
        if line.startswith("Model:")
    ]
    program = shutil.which("nvidia-smi")
    if listed or program is None:
        return listed
    query = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.rpartition(",") for line in answer.splitlines() if "," in line)
    return [Accelerator(name.strip(), release.strip()) for name, _, release in rows]


def _inputs() -> list[Input]:
    rebuild = "pip install --upgrade --only-binary av av"
    found = [
        Input(name, True, "PyAV", "") if known in av.formats_available else Input(name, False, "", rebuild)
        for name, known in _FORMATS.items()
    ]
    for name in _PROTOCOLS:
        if _has_protocol(name):
            found.append(Input(name, True, "PyAV", ""))
        elif name == "srt":
            usable = shutil.which("ffmpeg") is not None
            by = "the ffmpeg program" if usable else ""
            found.append(Input(name, usable, by, "" if usable else "apt install ffmpeg"))
        else:
            found.append(Input(name, False, "", rebuild))
    return found


def _has_protocol(name: str) -> bool:
    """Ask for an address without a host: how it is refused tells what libavformat was built with."""
    try:
        av.open(f"{name}://", timeout=0.01).close()
    except av.error.ProtocolNotFoundError:
        return False
    except (av.error.FFmpegError, OSError, ValueError):
        return True
    return True


def optional_packages(requirements: list[str]) -> list[Package]:
    """Look for the packages of the extras that a user may want.

    :param requirements: as the metadata of a distribution lists them.
    """
    found = []
    for requirement in requirements:
        wanted, _, marker = requirement.partition(";")
        extra = re.search(r"extra\s*==\s*[\"']([\w-]+)[\"']", marker)
        name = re.match(r"[\w.-]+", wanted)
        if extra is None or name is None or extra[1] == _FOR_DEVELOPERS:
            continue
        install = f"pip install '{wanted.strip()}'"
        found.append(Package(name[0], extra[1], _version(name[0]), _PURPOSES.get(extra[1], ""), install))
    return found


def _requirements() -> list[str]:
    try:
        return requires("sonostream") or []
    except PackageNotFoundError:  # run from a checkout
        return []


def _default_model() -> DefaultModel:
    try:
        artifact = load_artifact("default")
    except ArtifactError as error:
        return DefaultModel(str(error))
    return DefaultModel("", str(artifact.path), artifact.sha256, msgspec.to_builtins(artifact.card))


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
