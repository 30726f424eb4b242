import io
import subprocess
import sys

from rich.console import Console

import models
from models.listing import show


def test_the_listing_shows_every_network_and_its_cost() -> None:
    text = io.StringIO()

    show(Console(file=text, width=160))

    lines = [line.split() for line in text.getvalue().splitlines()]
    shown = [line[0] for line in lines if line and line[0] in models.list_models()]
    assert shown == 2 * models.list_models()
    for name in ("mtl_oca", "la_net_r18"):
        first, second = (line for line in lines if line[:1] == [name])
        known = models.describe(name)
        assert first[1:4] == [f"{known.parameters:,}", f"{known.gmacs:.2f}", known.input]
        assert "Apache-2.0;" in second


def test_without_torch_the_command_says_what_to_install_and_exits_with_2() -> None:
    without_torch = (
        "import importlib.util as util, sys; find = util.find_spec;"
        "util.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest);"
        "from streamer.cli import main; sys.argv = ['sonostream', 'models']; main()"
    )

    done = subprocess.run([sys.executable, "-c", without_torch], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "sonostream: `models` needs torch: pip install 'sonostream[train]'\n"
