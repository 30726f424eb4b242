"""`sonostream export`: a checkpoint becomes a file that every engine runs, or does not become one."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.progress import Progress as Bar
from rich.table import Table

from models.artifact import Artifact, ArtifactError, InputSize
from models.checkpoint import Checkpoint, read_checkpoint
from models.export import ExportError
from models.fit import Fitter
from models.networks.registry import ModelError
from models.parity import Parity, unusable
from models.precisions import PRECISIONS, export_as
from models.quantize import QuantizeError
from models.runtimes import EngineError
from models.runtimes.base import Pixels
from models.triton import Backend, write_repository

_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
_MOST_FRAMES = 64
# Seeds that neither training nor evaluation draws from.
_PHANTOM_SEED = 4_000_000


def export_command(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of `sonostream train`.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .onnx file to write.")],
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8.")] = "fp32",
    calibrate: Annotated[
        Path | None, typer.Option(help="Folder of pictures to calibrate int8 and compare with.")
    ] = None,
    target: Annotated[str, typer.Option(help="What an int8 file is for: cpu or tensorrt.")] = "cpu",
    engine: Annotated[bool, typer.Option("--engine", help="Build the TensorRT engine for this GPU.")] = False,
    triton: Annotated[Path | None, typer.Option(help="Write a Triton model repository here.")] = None,
    max_batch: Annotated[int, typer.Option(min=1, max=64, help="Of the engine and of the repository.")] = 4,
    temperature: Annotated[
        float | None,
        typer.Option(min=0.05, max=20, help="Divides the class logits; the checkpoint's own if left out."),
    ] = None,
    allow_drift: Annotated[
        bool, typer.Option("--allow-drift", help="Write a file that drifts past its bound; its card says so.")
    ] = False,
) -> None:
    """Export a trained network, and compare every engine installed here with PyTorch."""
    if precision not in PRECISIONS:
        _fail(f"--precision is {', '.join(PRECISIONS)}, not {precision!r}")
    if target not in ("cpu", "tensorrt"):
        _fail(f"--target is cpu or tensorrt, not {target!r}")
    if output.suffix != ".onnx":
        _fail(f"--output is a file that ends in .onnx, not {output}")
    if engine and precision == "int8" and target == "cpu":
        _fail("--engine with int8 needs --target tensorrt: TensorRT does not read what is quantised for cpu")
    console = Console()
    try:
        network, card = read_checkpoint(checkpoint)
        if temperature is not None:
            card = msgspec.structs.replace(card, temperature=temperature)
        trained = Checkpoint(network, card)
        frames = _frames(trained, calibrate)
        artifact, rows = export_as(
            trained,
            output,
            precision=precision,
            frames=frames,
            target="tensorrt" if target == "tensorrt" else "cpu",
            allow_drift=allow_drift,
        )
        console.print(parity_table(rows))
        for line in unusable():
            console.print(f"not compared: {line}", style="dim")
        console.print(f"wrote {output}", soft_wrap=True)
        if triton is not None:
            # What is narrow gains from TensorRT; FP32 runs anywhere.
            backend: Backend = "tensorrt" if target == "tensorrt" or precision == "fp16" else "onnxruntime"
            model = write_repository(
                artifact,
                triton,
                max_batch=max_batch,
                backend=backend,
            )
            console.print(f"wrote {model}", soft_wrap=True)
        if engine:
            console.print(_build_engine(artifact, max_batch), soft_wrap=True)
    except (ArtifactError, EngineError, ExportError, ModelError, QuantizeError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"cannot write {error.filename or output}: {error.strerror or error}")


def parity_table(rows: list[Parity]) -> Table:
    """Lay out how far each engine is from PyTorch."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    frames = rows[0].frames if rows else 0
    table.caption = (
        f"Against PyTorch in fp32 on {frames} frames: lesion map in levels of 255, Dice between masks, "
        "largest difference of a class probability, labels that agree, times as fast as PyTorch."
    )
    for column in ("runtime", "precision"):
        table.add_column(column, no_wrap=True)
    for column in ("map max", "mean", "Dice", "classes", "labels", "speed"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("bound")
    for row in rows:
        table.add_row(
            row.runtime,
            row.precision,
            str(row.lesion_max),
            f"{row.lesion_mean:.2f}",
            f"{row.dice:.4f}",
            f"{row.classes_max:.2g}",
            f"{row.agreement:.1%}",
            f"{row.latency_ratio:.2f}",
            "within" if row.within else "beyond",
            style="" if row.within else "red",
        )
    return table


def _frames(trained: Checkpoint, folder: Path | None) -> Pixels:
    size = trained.card.input
    frames: Pixels
    if folder is None:
        return phantom_frames(size)
    if not folder.is_dir():
        raise ExportError(f"--calibrate is a folder of pictures; {folder} is none")
    pictures = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _PICTURES and "_mask" not in path.stem  # BUSI keeps masks beside images
    )
    if len(pictures) < 2:
        raise ExportError(
            f"{folder} has {len(pictures)} pictures ({', '.join(sorted(_PICTURES))}); two are needed"
        )
    chosen = pictures[:: max(1, len(pictures) // _MOST_FRAMES)][:_MOST_FRAMES]
    frames = np.empty((len(chosen), size.height, size.width, size.channels), np.uint8)
    fitter = Fitter(size.width, size.height)
    for row, path in enumerate(chosen):
        fitter.fit(_picture(path), frames[row])
    return frames


def _picture(path: Path) -> Pixels:
    import cv2

    picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise ExportError(f"{path} is no picture that can be read")
    return np.asarray(picture, np.uint8)


def phantom_frames(size: InputSize, count: int = 16) -> Pixels:
    """Draw synthetic frames of a model's size, a third of each class.

    :return: count x H x W x C.
    """
    from streamer.sources.phantom import Phantom

    frames: Pixels = np.empty((count, size.height, size.width, size.channels), np.uint8)
    fitter = Fitter(size.width, size.height)
    kinds = ("benign", "malignant", "normal")
    for row in range(count):
        still = Phantom.still(_PHANTOM_SEED + row, width=560, height=480, label=kinds[row % 3])  # type: ignore[arg-type]
        fitter.fit(still.pixels, frames[row])
    return frames


def _build_engine(artifact: Artifact, max_batch: int) -> str:
    from models.runtimes.tensorrt import TensorRtSession
    from streamer.daemon import cache_directory

    with (
        Bar(transient=True) as bar,
        TensorRtSession(
            artifact, max_batch=max_batch, cache_dir=cache_directory(), progress=_show(bar)
        ) as session,
    ):
        session.warm_up()
        device = session.description.device
    return f"built the engine for {device}, batches of 1 to {max_batch}; it is kept in {cache_directory()}"


def _show(bar: Bar) -> Callable[[str, int, int], None]:
    tasks = {}

    def progress(phase: str, done: int, steps: int) -> None:
        if phase not in tasks:
            tasks[phase] = bar.add_task(phase, total=steps)
        bar.update(tasks[phase], completed=done)

    return progress


def _fail(message: str) -> None:
    typer.echo(f"sonostream: {message}", err=True)
    raise typer.Exit(2)
