"""Keeps what a run says of itself: its small text files, without the places of the machine it ran on."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.daemon import BenchError
from benchmarks.networks.runs import Trained, data_paths

_OWN_FOLDERS = re.compile(r"(--(out|cache)[ =])[^\s\"]+")
_PLACE = re.compile(r"(?<![\w.:/+=-])/(?:[\w.+-]+/)+[\w.+-]*")


def keep(runs: Sequence[Trained], folder: Path) -> list[Path]:
    """Copy results, recipe, folds and learning curves of every run into a folder of its network's name.

    The report is not: it shows pictures of patients. Paths of data sets become `PATH_OF_` and the set's name,
    those of the command's own folders `OUT` and `CACHE`.

    :return: the files that were written.
    :raises BenchError: if a file cannot be read or written, or still names a place of this machine.
    """
    names = [run.network for run in runs]
    if len(set(names)) < len(names):
        raise BenchError(
            "two runs trained the same network, and each is kept by its network's name: keep one"
        )
    written = []
    for run in runs:
        for source, name in _files(run):
            target = folder / run.network / name
            try:
                text = _without_places(source.read_text(encoding="utf-8"), run, source)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
            except OSError as error:
                raise BenchError(f"{source} cannot be kept as {target}: {error.strerror or error}") from None
            written.append(target)
    return written


def _files(run: Trained) -> Iterator[tuple[Path, str]]:
    for name in ("results.json", "recipe.toml", "folds.csv"):
        yield run.folder / name, name
    for fold in run.folds:
        name = "epochs.jsonl" if len(run.folds) == 1 else f"epochs-{fold.number}.jsonl"
        yield fold.folder / "epochs.jsonl", name


def _without_places(text: str, run: Trained, source: Path) -> str:
    text = _OWN_FOLDERS.sub(lambda found: found[1] + found[2].upper(), text)
    # The longest first: one may lie in another.
    for name, path in sorted(data_paths(run), key=lambda one: -len(one[1])):
        if not path.startswith("phantom:"):
            text = text.replace(path, f"PATH_OF_{re.sub(r'[^A-Z0-9]+', '_', name.upper())}")
    for found in set(_PLACE.findall(text)):
        if os.path.exists(found):  # noqa: PTH110 - Path.exists raises for what is too long for a path
            raise BenchError(
                f"{source} names {found}, a place of this machine; take it out before it is kept"
            )
    return text
