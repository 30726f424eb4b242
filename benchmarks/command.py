"""`sonostream bench`: measurements that print a table and write JSON.

Each benchmark's options are in a file of its own under `benchmarks/commands`, which imports what it runs
when it runs it: the help page stays quick.
"""

import typer

from benchmarks.commands.compare import check, compare
from benchmarks.commands.engines import engines
from benchmarks.commands.glass import glass
from benchmarks.commands.live import live
from benchmarks.commands.networks import networks
from benchmarks.commands.offline import offline
from benchmarks.commands.overload import overload
from benchmarks.commands.profile import profile
from benchmarks.commands.soak import soak
from benchmarks.commands.startup import startup
from benchmarks.commands.temporal import temporal

bench = typer.Typer(no_args_is_help=True, add_completion=False)


@bench.callback()
def _root() -> None:
    """Measure latency against its floor. Prints a table, writes JSON."""


bench.command()(live)
bench.command()(overload)
bench.command()(compare)
bench.command()(check)
bench.command()(temporal)
bench.command()(engines)
bench.command()(networks)
bench.command()(offline)
bench.command()(startup)
bench.command()(soak)
bench.command()(profile)
bench.command()(glass)
