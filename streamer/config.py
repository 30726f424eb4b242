"""The configuration: one typed tree, filled from a TOML file, the environment and the command line.

A key has the same name everywhere: `http.port` in the file is `--http.port` on the command line and
`SONOSTREAM_HTTP__PORT` in the environment. Flags win over the environment, which wins over the file.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from streamer.loopback import is_loopback
from streamer.sources.base import SourceUnavailable
from streamer.sources.registry import parse_uri, without_credentials

ENVIRONMENT_PREFIX = "SONOSTREAM_"


class ConfigError(ValueError):
    """The configuration is wrong: names the key, where it was set, and what was expected."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _parse_region(value: object) -> object:
    if isinstance(value, str) and value not in ("full", "auto"):
        parts = value.split(",")
        if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
            raise ValueError("expected full, auto or x,y,width,height in pixels")
        return tuple(int(part) for part in parts)
    return value


def _parse_pair(value: object) -> object:
    return tuple(value.replace("x", ",").split(",")) if isinstance(value, str) else value


def _parse_names(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(name for part in value.split(",") if (name := part.strip()))


def _check_region(value: Any) -> Any:
    if isinstance(value, tuple):
        x, y, width, height = value
        if x < 0 or y < 0 or width < 32 or height < 32:
            raise ValueError("expected x,y at least 0 and width,height at least 32 pixels")
    return value


def _check_uri(value: str) -> str:
    try:
        parse_uri(value)
    except SourceUnavailable as error:
        raise ValueError(str(error)) from None
    return value


def _check_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", value):
        raise ValueError("expected 1 to 64 letters, digits, '_', '-' or '.'")
    return value


def _check_endpoint(value: str, info: ValidationInfo) -> str:
    has_keys = info.data.get("keys") is not None
    if value.startswith("ipc://@") and not has_keys:
        raise ValueError("an ipc address without a file is open to every user: use ipc:///path")
    if value.startswith("ipc://") and len(value) > len("ipc://"):
        return value
    match = re.fullmatch(r"tcp://(\[[0-9a-fA-F:]+\]|[^\s:/]+):(\d{1,5}|\*)", value)
    if match is None:
        raise ValueError("expected tcp://address:port or ipc://path")
    if not is_loopback(match[1]) and not has_keys:
        raise ValueError(
            f"{match[1]} is beyond this machine, and results are not encrypted: set publish.keys to a folder "
            "made by `sonostream keys new`, or bind to 127.0.0.1 and reach it through a tunnel (ssh -L)"
        )
    return value


def _check_loopback(value: str) -> str:
    if not is_loopback(value):
        raise ValueError(f"{value} is beyond this machine: use 127.0.0.1 and a tunnel (ssh -L)")
    return value


RegionValue = Annotated[
    Literal["full", "auto"] | tuple[int, int, int, int],
    BeforeValidator(_parse_region),
    AfterValidator(_check_region),
]
Positive = Annotated[float, Field(gt=0, le=1000)]
Spacing = Annotated[tuple[Positive, Positive], BeforeValidator(_parse_pair)]
Names = Annotated[tuple[str, ...], BeforeValidator(_parse_names)]
PixelCount = Annotated[int, Field(ge=32, le=8192)]
PictureSize = Annotated[tuple[PixelCount, PixelCount], BeforeValidator(_parse_pair)]
Port = Annotated[int, Field(ge=0, le=65535)]


class SourceConfig(_Section):
    """One feed."""

    uri: Annotated[str, AfterValidator(_check_uri)]
    """What to read: a device, file, folder, network stream, `zmq+tcp://...` or `phantom:`."""
    name: Annotated[str, AfterValidator(_check_name)] = ""
    """Name in results and metrics; the kind of source, numbered, where left out. Don't use a patient's."""
    policy: Literal["newest", "every"] | None = None
    """Frames that come too fast are replaced (`newest`) or waited for (`every`, the rule for files)."""
    region: RegionValue = "full"
    """The ultrasound picture on the screen: full, auto (found once) or x,y,width,height; no more leaves."""
    capture_delay_ms: Annotated[float, Field(ge=0, le=2000)] = 0.0
    """Constant delay before the capture stamp, as of a frame grabber; added to every age and latency."""
    pixel_spacing_mm: Spacing | None = None
    """Size of a pixel as row,column in mm, where the source does not tell it."""
    fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Frame rate asked of a device or generator, or of a folder of images."""
    size: PictureSize | None = None
    """Width,height asked of a device or generator."""
    pace: Literal["realtime", "fast"] = "realtime"
    """Files: at their own rate, or as fast as they are analysed."""
    loop: bool = False
    """Files: start over at the end."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """A device or stream that delivers nothing for so long is lost and opened again."""
    keys: Path | None = None
    """zmq+tcp://: the server's folder of keys where it binds, a client's file where it connects."""
    required: bool = True
    """Whether the daemon refuses to start without it; if not, it keeps trying to open it."""


class FeedConfig(_Section):
    """When a feed counts as not live, and how a lost one is opened again; for all sources."""

    frozen_after_s: Annotated[float, Field(gt=0, le=60)] = 0.5
    """The same picture for so long is a frozen feed."""
    no_signal_after_s: Annotated[float, Field(gt=0, le=60)] = 0.3
    """Black or uniform for so long is no signal."""
    stale_after_s: Annotated[float, Field(gt=0, le=60)] = 0.25
    """No new frame for so long makes what is shown stale."""
    reconnect_first_s: Annotated[float, Field(gt=0, le=60)] = 0.25
    """First wait before a lost source is opened again; doubles, with jitter..."""
    reconnect_max_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """...up to this."""


class ModelConfig(_Section):
    """What analyses the frames."""

    artifact: str = "default"
    """An exported model (.onnx), `default`, or `auto`: the best that keeps up with source.fps."""
    runtime: str = "auto"
    """Engine: auto (measured), tensorrt, openvino, onnxruntime or kserve; torch runs a checkpoint."""
    server: str = ""
    """For kserve: host:port, or host:port/model."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """What the engine computes in; auto is the fastest the processor has instructions for."""
    classes: Names = ()
    """Names of classes the model must have, in order; empty: whatever it has. As a flag: a,b,c."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads of the engine; all physical cores where left out."""
    watch: bool = False
    """Load the artifact anew when its file changes, as SIGHUP does; what fails to load changes nothing."""
    watchdog_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """An engine that does not answer for so long ends the daemon, for its supervisor to restart it."""


class SmoothingConfig(_Section):
    """How the answers are steadied over time."""

    enabled: bool = True
    """Off: smoothed values equal the raw ones."""
    mask_time_s: Annotated[float, Field(gt=0, le=5)] = 0.12
    """Time constant of news in the lesion mask."""
    outline_time_s: Annotated[float, Field(gt=0, le=5)] = 0.4
    """Time constant of small changes along a lesion's outline."""
    class_time_s: Annotated[float, Field(gt=0, le=30)] = 0.15
    """Time constant of the class evidence."""
    gap_s: Annotated[float, Field(gt=0, le=60)] = 0.5
    """A longer pause between two frames starts a new view."""
    cut_below: Annotated[float, Field(ge=-1, le=1)] = 0.8
    """Correlation between two pictures' structure under which the view has changed."""
    zoom_above: Annotated[float, Field(ge=0, le=1)] = 0.75
    """Correlation after scaling from which it is the same view at another depth or zoom."""
    gain_jump: Annotated[float, Field(gt=0, le=255)] = 12.0
    """Change of the mean gray level between two frames that a hand makes at the console."""
    contact_below: Annotated[float, Field(ge=0, le=0.8)] = 0.3
    """Part of the picture's width in contact under which the probe is lifted."""
    label_margin: Annotated[float, Field(ge=0, le=1)] = 0.3
    """The shown label changes only to a class more probable by this much."""
    uncertain_below: Annotated[float, Field(ge=0, le=1)] = 0.15
    """The evidence is uncertain where the shown class leads the next one by less than this..."""
    certain_above: Annotated[float, Field(ge=0, le=1)] = 0.25
    """...until it leads by this much again."""
    stable_after_s: Annotated[float, Field(ge=0, le=60)] = 0.5
    """How long a label must have held to be stable..."""
    stable_above: Annotated[float, Field(ge=0, le=1)] = 0.6
    """...with at least this smoothed probability."""
    track_memory_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    """A lesion not seen for so long loses its identity."""
    spread_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Measures are given as mean and spread over this long."""


class PublishConfig(_Section):
    """Where results go."""

    keys: Path | None = None
    """Folder made by `sonostream keys new`: only clients it allows get results. Needed beyond loopback."""
    bind: Annotated[str, AfterValidator(_check_endpoint)] = "tcp://127.0.0.1:7070"
    """ZeroMQ address of the results."""
    preview: bool = True
    """Publish pictures too, while someone subscribes to them."""
    preview_max_side: Annotated[int, Field(ge=64, le=8192)] = 1280
    """Larger pictures are scaled down to this."""
    preview_quality: Annotated[int, Field(ge=1, le=100)] = 85
    """JPEG quality."""


class RecordConfig(_Section):
    """A recording of everything that is analysed (MCAP; needs `pip install 'sonostream[formats]'`)."""

    path: str | None = None
    """File to create, numbered where there is one; `{time}` in it becomes the start's time. None: nothing."""
    pictures: bool = True
    """Keep the region's pixels; without them a recording can't be run again."""
    pixels: Literal["png", "ffv1", "h264"] = "png"
    """How they are kept: png and ffv1 (a fifth smaller) lossless, h264 a tenth of it, not exact."""


class OpenIGTLinkConfig(_Section):
    """Results for 3D Slicer and other OpenIGTLink programs, which connect to us."""

    port: Port | None = None
    """Port to listen on, by custom 18944; 0 takes a free one. None sends nothing."""
    host: Annotated[str, AfterValidator(_check_loopback)] = "127.0.0.1"
    """Address to listen on; loopback only, as OpenIGTLink knows no keys."""


class HttpConfig(_Section):
    """Metrics, health and status."""

    host: str = "127.0.0.1"
    """Address to listen on; loopback unless told otherwise."""
    port: Port = 7071
    """Port of /metrics, /healthz, /readyz and /status; 0 takes a free one."""


class LogConfig(_Section):
    """What is logged, to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least serious level that is logged."""
    format: Literal["text", "json"] = "text"
    """One line of text, or one JSON object, for each event."""


class Config(_Section):
    """Everything a daemon needs to know."""

    source: tuple[SourceConfig, ...] = ()
    feed: FeedConfig = FeedConfig()
    model: ModelConfig = ModelConfig()
    smoothing: SmoothingConfig = SmoothingConfig()
    publish: PublishConfig = PublishConfig()
    record: RecordConfig = RecordConfig()
    openigtlink: OpenIGTLinkConfig = OpenIGTLinkConfig()
    http: HttpConfig = HttpConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _name_sources(self) -> "Config":
        taken = {source.name for source in self.source if source.name}
        if len(taken) < sum(1 for source in self.source if source.name):
            raise ValueError("two sources have the same name")
        named = []
        for source in self.source:
            name = source.name
            if not name:
                kind = parse_uri(source.uri).partition("+")[0]  # zmq+tcp is named zmq
                name = next(n for n in (kind, *(f"{kind}-{i}" for i in range(2, 10_000))) if n not in taken)
                taken.add(name)
            named.append(source.model_copy(update={"name": name}))
        object.__setattr__(self, "source", tuple(named))
        return self


def load_config(
    file: Path | None = None,
    *,
    flags: Mapping[str, Any] = MappingProxyType({}),
    environment: Mapping[str, str] = os.environ,
    sources: tuple[str, ...] = (),
) -> Config:
    """Resolve the configuration.

    :param file: a TOML file, or None.
    :param flags: values by dotted key, such as `{"http.port": 9000}`; `source.` keys hold for every one of
        `sources`.
    :param sources: URIs from the command line; they replace the file's sources.
    :raises ConfigError: if anything is wrong, before any device is opened.
    """
    tree: dict[str, Any] = {}
    origin: dict[str, str] = {}
    if file is not None:
        tree = _read_toml(file)
    for name, value in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX) and "__" in name:
            key = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
            _set(tree, key, value)
            origin[key] = f"environment variable {name}"
    for key, value in flags.items():
        if not key.startswith("source."):
            _set(tree, key, value)
            origin[key] = f"--{key}"
    of_sources = {
        key.removeprefix("source."): value for key, value in flags.items() if key.startswith("source.")
    }
    if sources:
        tree["source"] = [{"uri": uri, **of_sources} for uri in sources]
    elif of_sources:
        raise ConfigError(
            "--source.… flags go with sources on the command line; in a file, set keys of [[source]]"
        )
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(problem, origin, file, from_arguments=bool(sources)) for problem in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also of numbers too long and tables too deep
        raise ConfigError(f"{file} is not valid TOML: {error}") from None


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        below = tree.setdefault(section, {})
        if not isinstance(below, dict):
            raise ConfigError(f"{key}: {section} is not a section with keys of its own")
        tree = below
    tree[last] = value


def _explain(problem: Any, origin: Mapping[str, str], file: Path | None, *, from_arguments: bool) -> str:
    path = [
        str(part) for part in problem["loc"] if not str(part).startswith(("tuple[", "literal[", "function-"))
    ]
    key = ".".join(path)
    where = origin.get(key) or (
        "command line" if from_arguments and path[:1] == ["source"] else str(file or "")
    )
    if problem["type"] == "extra_forbidden":
        near = get_close_matches(path[-1], _keys_beside(path), n=1)
        said = "unknown key" + (f" (did you mean {near[0]}?)" if near else "")
    else:
        said = problem["msg"].removeprefix("Value error, ")
        said = said[:1].lower() + said[1:]
        if problem["type"] not in ("value_error", "missing"):
            said += f", not {without_credentials(repr(problem['input']))}"
    return ": ".join(part for part in (where, key if where != f"--{key}" else "", said) if part)


def _keys_beside(path: list[str]) -> list[str]:
    model: Any = Config
    for part in path[:-1]:
        if part == "source":
            model = SourceConfig
        elif part in model.model_fields:
            model = model.model_fields[part].annotation
    return list(model.model_fields)
