"""Plots of runs, as a PNG file or as a page with the figures beside it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.daemon import BenchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".html")


def check(file: Path) -> None:
    """Say before a long run what would be wrong after it.

    :raises BenchError: if matplotlib is not installed, or the file is neither PNG nor HTML.
    """
    if file.suffix not in FORMATS:
        raise BenchError(f"--plot writes {' or '.join(FORMATS)}, not {file.name!r}")
    figure(1, 1)


def figure(width: float, height: float) -> "Figure":
    """Begin a drawing, in inches.

    :raises BenchError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BenchError("--plot needs matplotlib: pip install 'sonostream[dev]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def save(drawing: "Figure", file: Path, show: Callable[[Console], None]) -> None:
    """Write a drawing; into HTML together with the tables.

    :param show: prints the run's tables.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".png":
        drawing.savefig(file, dpi=90)
        return
    picture = io.StringIO()
    drawing.savefig(picture, format="svg")
    console = Console(record=True, width=130, file=io.StringIO())
    show(console)
    svg = picture.getvalue()
    page = console.export_html(inline_styles=True)
    file.write_text(page.replace("</body>", f"{svg[svg.index('<svg') :]}</body>", 1))
