"""`sonostream schema`: the wire format for readers in any language."""

import typer


def schema() -> None:
    """Print the JSON Schema of the results on the wire."""
    from streamer.analysis import json_schema

    typer.echo(json_schema().decode())
