"""How a model fares where pictures look otherwise than those it learned from.

`python -m train.shifts MODEL --data PATH` scores a model on the same images as they are and changed the ways
scanners, settings and video links differ. Imitation, not other scanners: a model that fails here will fail
there; one that passes has shown no more than this.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from models.artifact import ArtifactError
from models.runtimes import EngineError, load
from train.commands.evaluate import choose
from train.data import DataError, Images, Pixels, Study, fit, label_index, lesion_of, read_gray
from train.evaluation.answers import ask
from train.evaluation.scores import score
from train.sets import read

FIGURES = ("dice", "missed", "false_positives", "auc", "accuracy", "calibration_error")

Change = Callable[[Pixels, Pixels, np.random.Generator], tuple[Pixels, Pixels]]


def _pixels_only(change: Callable[[Pixels], np.ndarray]) -> Change:
    def changed(picture: Pixels, lesion: Pixels, _: np.random.Generator) -> tuple[Pixels, Pixels]:
        return np.asarray(change(picture), np.uint8), lesion

    return changed


def _gray_map(gamma: float) -> Change:
    return _pixels_only(lambda picture: 255 * (picture / 255) ** gamma)


def _coarse(picture: Pixels) -> np.ndarray:
    small = cv2.resize(picture, None, fx=0.22, fy=0.22, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, picture.shape[::-1], interpolation=cv2.INTER_CUBIC)


def _compressed(picture: Pixels) -> np.ndarray:
    _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 12])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE))


def _grain(picture: Pixels, lesion: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    noise = cv2.GaussianBlur(rng.normal(size=picture.shape).astype(np.float32), (0, 0), 1.5)
    noisy = picture * (1 + 0.45 * noise / noise.std())
    return noisy.clip(0, 255).astype(np.uint8), lesion


def _close(picture: Pixels, lesion: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Crop to the lesion and half to once its size on every side; a normal to half to four fifths of it."""
    height, width = picture.shape
    rows, columns = (np.flatnonzero(lesion.any(axis=axis)) for axis in (1, 0))
    if len(rows):
        above, below, left, right = rng.uniform(0.5, 1, 4)
        tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        top, bottom = rows[0] - above * tall, rows[-1] + 1 + below * tall
        start, end = columns[0] - left * wide, columns[-1] + 1 + right * wide
    else:
        tall, wide = (rng.uniform(0.5, 0.8) * side for side in (height, width))
        top, start = rng.uniform(0, height - tall), rng.uniform(0, width - wide)
        bottom, end = top + tall, start + wide
    part = np.s_[max(0, int(top)) : int(bottom), max(0, int(start)) : int(end)]
    return np.ascontiguousarray(picture[part]), np.ascontiguousarray(lesion[part])


def _far(picture: Pixels, lesion: Pixels, _: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Put the picture into a larger black one, as a sector lies in a screen."""
    height, width = picture.shape
    above, below, beside = height // 10, (3 * height) // 10, (3 * width) // 20
    margins = (above, below), (beside, beside)
    return np.pad(picture, margins), np.pad(lesion, margins)


CHANGES: dict[str, Change] = {
    "as they are": _pixels_only(lambda picture: picture),
    "closer": _close,
    "farther": _far,
    "smoothed": _pixels_only(lambda picture: cv2.bilateralFilter(cv2.medianBlur(picture, 7), 9, 40, 9)),
    "grainy": _grain,
    "coarse": _pixels_only(_coarse),
    "dark": _gray_map(1.8),
    "bright": _gray_map(0.55),
    "local contrast": _pixels_only(lambda picture: cv2.createCLAHE(4, (8, 8)).apply(picture)),
    "compressed": _pixels_only(_compressed),
}
"""By name; all with the same seed, so two models see the same pictures."""


def changed_images(studies: Sequence[Study], change: Change, size: int, *, seed: int = 1) -> Images:
    """Read images, change them at their own size, then bring them to the model's.

    :param size: side of the square they are brought to, in pixels.
    :raises DataError: if a file cannot be read.
    """
    rng = np.random.default_rng(seed)
    pixels = np.empty((len(studies), size, size), np.uint8)
    masks = np.empty_like(pixels)
    for row, study in enumerate(studies):
        picture = read_gray(study.image)
        seen, lesion = change(picture, lesion_of(study, picture.shape), rng)
        fit(seen, pixels[row])
        fit(lesion, masks[row])
    return Images(
        tuple(study.name for study in studies),
        np.array([study.group for study in studies], np.int64),
        pixels,
        masks,
        np.array([label_index(study.label) for study in studies], np.int64),
        masked=np.array([study.masks is not None for study in studies]),
        sources=tuple(study.source for study in studies),
    )


def command(
    model: Annotated[str, typer.Argument(help="An .onnx file, or a model that ships.")],
    data: Annotated[list[str], typer.Option(help="As of `sonostream evaluate`; may be repeated.")],
    part: Annotated[str | None, typer.Option(help="As of `sonostream evaluate`.")] = None,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Score a model on images changed the ways scanners, settings and video links differ."""
    try:
        studies, name, protocol = choose(read(data, heldout="use"), part)
        results = {}
        with load(model, max_batch=8) as session:
            for kind, change in track(CHANGES.items(), "scoring", console=Console(stderr=True)):
                images = changed_images(studies, change, session.card.input.height)
                figures = score(ask(session, images), images, rounds=0).figures
                results[kind] = {key: round(figures[key].value, 4) for key in FIGURES if key in figures}
            title = f"{session.card.name} {session.card.version}, {name}, {len(studies)} images"
    except (ArtifactError, DataError, EngineError) as error:
        typer.echo(f"train.shifts: {error}", err=True)
        raise typer.Exit(2) from None
    table = Table(title=title, caption="Imitated differences, not other scanners. Research use only.")
    table.add_column("pictures")
    for key in next(iter(results.values())):
        table.add_column(key.replace("_", " "), justify="right")
    for kind, row in results.items():
        table.add_row(kind, *(f"{value:.3f}" for value in row.values()))
    Console().print(table)
    if output is not None:
        says = {"schema": "sonostream.shifts/1", "model": title, "protocol": protocol, "changes": results}
        output.write_text(json.dumps(says, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(command)
