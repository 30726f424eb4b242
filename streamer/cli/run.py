"""`sonostream run`: the daemon in the foreground."""

import os
import sys
from typing import Annotated, NoReturn

import typer

from streamer.cli.flags import ConfigFile, with_config_flags
from streamer.config import Config, ConfigError, load_config
from streamer.config_text import as_toml


@with_config_flags
def run(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help="/dev/video0, clip.mp4, study.dcm, study.mcap, folder/, rtsp://..., igtl://..., phantom:",
        ),
    ] = None,
    config_file: ConfigFile = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Show the resolved configuration and exit.")
    ] = False,
    *,
    flags: dict[str, str],
) -> None:
    """Analyse live sources and publish what is seen in them. Research use only.

    Several sources share one model. Example: sonostream run phantom: /dev/video0 --http.port 9000
    """
    try:
        config = load_config(config_file, flags=flags, sources=tuple(sources or ()))
    except ConfigError as error:
        fail(str(error))
    if print_config:
        typer.echo(as_toml(config), nl=False)
        return
    raise typer.Exit(serve(config))


def serve(config: Config) -> int:
    """Run a daemon and return its exit code; says in one line why it cannot start."""
    from streamer import logs
    from streamer.daemon import EXIT_CANNOT_START, Daemon, StartError
    from streamer.no_dumps import forbid_dumps

    forbid_dumps()
    logs.set_up(config.log.level, json_lines=config.log.format == "json")
    try:
        daemon = Daemon(config)
        code = daemon.run()
    except StartError as error:
        typer.echo(f"sonostream: {error}", err=True)
        return EXIT_CANNOT_START
    if daemon.hung:
        # Python would wait for ever for the thread that is inside the engine.
        sys.stderr.flush()
        os._exit(code)
    return code


def fail(message: str) -> NoReturn:
    """Say what is wrong and exit with 2."""
    for line in message.splitlines():
        typer.echo(f"sonostream: {line}", err=True)
    raise typer.Exit(2)
