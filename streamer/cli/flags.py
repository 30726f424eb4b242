"""Command-line flags made from the configuration's own fields, so that names and help never differ."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from streamer.config import Config, SourceConfig


def config_keys() -> dict[str, str]:
    """Return every dotted key with its meaning and default, except a source's URI, which is an argument."""
    sections: dict[str, type[BaseModel]] = {"source": SourceConfig}
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            sections[name] = field.annotation
    return {
        f"{section}.{key}": _meaning(field)
        for section, model in sections.items()
        for key, field in model.model_fields.items()
        if (section, key) != ("source", "uri")
    }


def _meaning(field: FieldInfo) -> str:
    unset = field.default is None or field.default == ""
    return (
        field.description or "" if unset else f"{field.description} (default: {str(field.default).lower()})"
    )


def with_config_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each configuration key, and one for each key of a source.

    The command gets them as one dictionary, its argument `flags`: dotted key -> text, for those given.
    """
    own = [p for p in inspect.signature(function).parameters.values() if p.name != "flags"]
    keys = config_keys()
    options = [
        inspect.Parameter(
            key.replace(".", "__"),
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None,
                typer.Option(
                    f"--{key}",
                    help=text,
                    metavar="VALUE",
                    rich_help_panel=key.partition(".")[0],
                    show_default=False,
                ),
            ],
        )
        for key, text in keys.items()
    ]

    def command(**arguments: Any) -> None:
        flags = {key: arguments.pop(key.replace(".", "__")) for key in keys}
        function(**arguments, flags={key: value for key, value in flags.items() if value is not None})

    command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*own, *options)}
    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    return command


ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file; see sonostream.toml in the documentation.")
]
