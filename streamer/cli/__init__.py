"""The `sonostream` command. A subcommand is imported when it is used, so that each starts quickly."""

from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

COMMANDS = {
    "demo": "streamer.cli.demo:demo",
    "run": "streamer.cli.run:run",
    "view": "streamer.view.command:view_command",
    "train": "train.command:train_command",
    "evaluate": "train.command:evaluate_command",
    "bench": "benchmarks.command:bench",
    "models": "models.listing:models_command",
    "doctor": "streamer.doctor:doctor_command",
    "schema": "streamer.cli.schema:schema",
}
"""Name -> `module:function or Typer application`, in the order of the help page."""


class _LazyGroup(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        target = getattr(import_module(module), attribute)
        if isinstance(target, typer.Typer):
            group = typer.main.get_command(target)
            group.name = cmd_name
            return group
        single = typer.Typer(add_completion=False)
        single.command(cmd_name)(target)
        return typer.main.get_command(single)


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sonostream {version('sonostream')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Analyse live breast-ultrasound video, frame by frame. Research use only: not a medical device."""


def main() -> None:
    """Run the command line."""
    app()
