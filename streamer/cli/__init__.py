"""The `sonostream` command. A subcommand is imported when it is used, so that each starts quickly."""

from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from streamer.cli.examples import epilog


class Command(NamedTuple):
    """One subcommand."""

    target: str
    """`module:function`, or a Typer application; imported when the command is used."""
    summary: str
    """What the help page says, without importing anything."""


COMMANDS = {
    "demo": Command("streamer.cli.demo:demo", "Show a live synthetic feed analysed in a browser page."),
    "run": Command("streamer.cli.run:run", "Analyse live sources and publish what is seen in them."),
    "view": Command("streamer.view.command:view_command", "Show a daemon's results in a web page."),
    "record": Command("streamer.cli.record:record", "Record a daemon's results and pictures in a file."),
    "replay": Command("streamer.cli.replay:replay", "Run a recording again and report what changed."),
    "extract": Command("streamer.cli.extract:extract", "Make a video, tables or DICOM of a recording."),
    "train": Command("train.commands.train:train_command", "Train a network and export it."),
    "evaluate": Command(
        "train.commands.evaluate:evaluate_command", "Measure how well a model does on a data set."
    ),
    "export": Command(
        "train.commands.export:export_command", "Turn a checkpoint into a file that every engine runs."
    ),
    "bench": Command("benchmarks.command:bench", "Measure latency against its floor."),
    "models": Command("models.listing:models_command", "List the networks with their papers and sizes."),
    "doctor": Command("streamer.doctor:doctor_command", "Say what this machine has and what is missing."),
    "keys": Command("streamer.keys.command:keys_app", "Make keys and say which clients may connect."),
    "licences": Command(
        "streamer.cli.licences:licences", "List what is installed with it and under which licences."
    ),
    "schema": Command("streamer.cli.schema:schema", "Print the JSON Schema of the results on the wire."),
}
"""In the order of the help page."""

EXTRAS = {
    "torch": "train",
    "onnx": "train",
    "onnxscript": "train",
    "kornia": "train",
    "lightning_fabric": "train",
    "monai": "train",
    "tomli_w": "train",
}
"""Package that a plain install lacks -> the extra that brings it."""


class _LazyGroup(TyperGroup):
    """Knows its commands' names and summaries; imports the one that is used."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        named = typer.Typer(add_completion=False)
        named.command(cmd_name, help=COMMANDS[cmd_name].summary)(lambda: None)
        return typer.main.get_command(named)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and _load(args[0]), rest


def _load(name: str) -> Any:
    module, _, attribute = COMMANDS[name].target.partition(":")
    try:
        target = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        typer.echo(
            f"sonostream: `{name}` needs {error.name}: pip install 'sonostream[{EXTRAS[error.name]}]'",
            err=True,
        )
        raise typer.Exit(2) from None
    if isinstance(target, typer.Typer):
        group = typer.main.get_command(target)
        group.name = name
        group.epilog = epilog(name)
        return _flowing(group)
    single = typer.Typer(add_completion=False)
    single.command(name, epilog=epilog(name))(target)
    return _flowing(typer.main.get_command(single))


def _flowing(command: Any) -> Any:
    """Let the terminal break the lines of a help text, not the source file that it is written in."""
    if command.help:
        command.help = "\n\n".join(" ".join(part.split()) for part in command.help.split("\n\n"))
    for each in getattr(command, "commands", {}).values():
        _flowing(each)
    return command


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
