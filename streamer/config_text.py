"""A resolved configuration as text, to be shown or kept with a recording."""

import json
from pathlib import Path

from streamer.config import Config
from streamer.sources.registry import without_credentials

_LEFT_OUT = "(left out)"


def as_toml(config: Config) -> str:
    """Write a configuration as TOML, passwords in URIs left out; unset keys are comments."""
    lines = []
    for source in config.source:
        lines += ["[[source]]", *_keys(source.model_dump(mode="json")), ""]
    for section, values in config.model_dump(mode="json", exclude={"source"}).items():
        lines += [f"[{section}]", *_keys(values), ""]
    return "\n".join(lines)


def without_places(config: Config) -> Config:
    """Leave out where files and streams are, for what is passed on: a folder's name may be a patient's."""
    sources = [
        source.model_copy(update={"uri": _LEFT_OUT, "keys": source.keys and Path(_LEFT_OUT)})
        for source in config.source
    ]
    sections = {
        "model": config.model.model_copy(update={"artifact": Path(config.model.artifact).name}),
        "publish": config.publish.model_copy(update={"keys": config.publish.keys and Path(_LEFT_OUT)}),
        "record": config.record.model_copy(update={"path": config.record.path and _LEFT_OUT}),
    }
    return config.model_copy(update={"source": tuple(sources), **sections})


def _keys(values: dict[str, object]) -> list[str]:
    return [
        f"# {key} is not set" if value is None else f"{key} = {_value(value)}"
        for key, value in values.items()
    ]


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(without_credentials(value), ensure_ascii=False)
    return json.dumps(value)
