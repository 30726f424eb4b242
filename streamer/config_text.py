"""A resolved configuration as text, to be shown or kept with a recording."""

import json

from streamer.config import Config
from streamer.sources.registry import without_credentials


def as_toml(config: Config) -> str:
    """Write a configuration as TOML, passwords in URIs left out; unset keys are comments."""
    lines = []
    for source in config.source:
        lines += ["[[source]]", *_keys(source.model_dump(mode="json")), ""]
    for section, values in config.model_dump(mode="json", exclude={"source"}).items():
        lines += [f"[{section}]", *_keys(values), ""]
    return "\n".join(lines)


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
