"""The table of `sonostream models`."""

import sys
from importlib.util import find_spec

from rich.console import Console
from rich.table import Table

from models.networks.registry import describe, list_models


def models_command(console: Console | None = None) -> int:
    """Print every network: paper, parameters, GMACs, input, outputs, classes, licence.

    :param console: where to print; None: standard output.
    :return: the exit status: 0, or 2 where torch, which counts the networks, is not installed.
    """
    if find_spec("torch") is None:
        print("sonostream models needs torch: pip install 'sonostream[train]'", file=sys.stderr)
        return 2
    table = Table(show_lines=True, caption="Research use only: none of these is a medical device.")
    for column in ("name", "paper"):
        table.add_column(column, overflow="fold")
    for column in ("parameters", "GMACs"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("input", "outputs", "classes", "licence"):
        table.add_column(column)
    for name in list_models():
        d = describe(name)
        table.add_row(
            d.name,
            d.paper,
            f"{d.parameters:,}",
            f"{d.gmacs:.2f}",
            d.input,
            d.outputs,
            ", ".join(d.classes),
            d.licence,
        )
    (console or Console()).print(table)
    return 0
