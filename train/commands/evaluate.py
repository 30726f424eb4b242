"""`sonostream evaluate`: one report for any model through any engine."""

import hashlib
import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.table import Table

from models.artifact import ArtifactError
from models.checkpoint import read_checkpoint
from models.networks.base import Network
from models.networks.registry import ModelError
from models.runtimes import EngineError, Precision, Session, load
from train.data import DataError, Images, Study, read_images
from train.evaluation.answers import ask
from train.evaluation.evaluate import MASKS_PROTOCOL, PHANTOM_PROTOCOL, REAL_PROTOCOL, as_card, load_phantom
from train.evaluation.marks import without_marks
from train.evaluation.scores import Positive, score
from train.metrics import Bools, Empty
from train.report.compare import Comparison, compare
from train.report.part import Part, figure_rows, is_synthetic, show
from train.report.run import names_in_fold
from train.report.words import MAIN, words
from train.report.write import Report, write_report
from train.sets import DataSet, read

_HELD_OUT, _ALL = "heldout", "all"
_HELD_OUT_NAME = "BUSI held-out"


def evaluate_command(
    model: Annotated[str, typer.Argument(help="An .onnx file, a checkpoint (.pt), or a model that ships.")],
    data: Annotated[
        list[str],
        typer.Option(help="A folder (BUSI, BUS-BRA, UDIAT), a CSV manifest or phantom:N; may be repeated."),
    ],
    part: Annotated[
        str | None,
        typer.Option(
            help="`heldout`: BUSI's held-out fifth; `all`; or RUN/fold-N: what that fold was tested on. "
            "Default: heldout where the data hold it, else all."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for report.html and results.json.")] = None,
    runtime: Annotated[str, typer.Option(help="Engine to judge it by.")] = "auto",
    precision: Annotated[str, typer.Option(help="`auto`, `fp32`, `fp16` or `bf16`.")] = "auto",
    server: Annotated[str | None, typer.Option(help="For kserve: host:port or host:port/model.")] = None,
    positive: Annotated[str, typer.Option(help="`malignant`, or `benign` as RMTL-Net counts.")] = "malignant",
    empty: Annotated[
        str, typer.Option(help="Distances to an empty mask: `undefined`, or `zero` as ACSNet's script.")
    ] = "undefined",
    mask_marks: Annotated[
        bool, typer.Option("--mask-marks", help="Also with calipers and text painted over, side by side.")
    ] = False,
    synthetic: Annotated[bool, typer.Option(help="Also on pictures of the phantom, apart.")] = True,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file too.")] = None,
    cache: Annotated[Path, typer.Option(help="Where rendered pictures are kept.")] = Path(".cache"),
) -> None:
    """Score a model on labelled images and write a report: the same code for every engine and precision."""
    try:
        _check("--positive", positive, ("malignant", "benign"))
        _check("--empty", empty, ("undefined", "zero"))
        found = read(data, heldout="use", cache=cache)
        studies, name, protocol = choose(found, part)
        with ExitStack() as stack:
            session = stack.enter_context(_load(model, runtime, precision, server))
            parts = _ask(session, studies, name, protocol, positive, empty, mask_marks=mask_marks)
            if synthetic:
                images = load_phantom(session.card.input.height, cache)
                answers = ask(session, images)
                scores = score(answers, images, positive=cast(Positive, positive))
                parts.append(Part("phantom", PHANTOM_PROTOCOL, answers, images, scores, synthetic=True))
            report = _report(model, session, parts, studies, found, positive)
    except (ArtifactError, DataError, EngineError, ModelError) as error:
        typer.echo(f"sonostream evaluate: {error}", err=True)
        raise typer.Exit(2) from None
    _print(report)
    try:
        if out is not None:
            write_report(report, out)
            typer.echo(f"report: {out / 'report.html'}")
        if output is not None:
            output.write_text(json.dumps(_as_json(model, report), indent=1))
    except (DataError, OSError) as error:
        said = str(error) if isinstance(error, DataError) else f"cannot write {output}: {error.strerror}"
        typer.echo(f"sonostream evaluate: {said}", err=True)
        raise typer.Exit(2) from None


def choose(found: DataSet, part: str | None) -> tuple[list[Study], str, str]:
    """Choose the images to judge by.

    :param part: see `sonostream evaluate --help`.
    :return: the studies, the part's name and its protocol.
    :raises DataError: if the part is not in the data.
    """
    held = set(found.findings["heldout"]["items"]) if "heldout" in found.findings else set()
    if part is None:
        part = _HELD_OUT if held else _ALL
    if part == _HELD_OUT:
        kept = [study for study in found.studies if f"{study.source}: {study.name}" in held]
        if not kept:
            raise DataError("the data hold none of BUSI's held-out images; use --part all")
        return kept, _HELD_OUT_NAME, REAL_PROTOCOL
    if part == _ALL:
        kept = [study for study in found.studies if not study.contradictory]
        left = len(found.studies) - len(kept)
        protocol = "All images" + (f" but {left} whose duplicates contradict each other" if left else "")
        if held:
            protocol += ", ALSO THOSE THAT THE MODEL MAY HAVE BEEN TRAINED ON"
        return kept, "all images", f"{protocol}. {MASKS_PROTOCOL}"
    names = names_in_fold(Path(part))
    kept = [study for study in found.studies if (study.source, study.name) in names]
    if len(kept) < len(names):
        raise DataError(
            f"{part} was tested on {len(names)} images, the data hold {len(kept)} of them; "
            "name the same data as for the run"
        )
    return kept, f"test part of {Path(part).name}", f"Test part of {part}. {MASKS_PROTOCOL}"


def _ask(
    session: Session,
    studies: Sequence[Study],
    name: str,
    protocol: str,
    positive: str,
    empty: str,
    *,
    mask_marks: bool,
) -> list[Part]:
    images = read_images(studies, session.card.input.height)
    first = _part(session, name, protocol, images, positive, empty)
    if not mask_marks:
        return [first]
    pixels, marked = without_marks(studies, session.card.input.height)
    second = _part(
        session, f"{name}, marks painted over", "", replace(images, pixels=pixels), positive, empty
    )
    return [first, second._replace(protocol=_pair(first, second, marked))]


def _part(session: Session, name: str, protocol: str, images: Images, positive: str, empty: str) -> Part:
    answers = ask(session, images)
    scores = score(answers, images, positive=cast(Positive, positive), empty=cast(Empty, empty))
    return Part(name, protocol, answers, images, scores, is_synthetic(images))


def _pair(with_marks: Part, without: Part, marked: Bools) -> str:
    """Say what painting over did to the images that have marks: the others cannot have changed."""
    says = (
        f"The same images with calipers and text painted over, where they were found: on {marked.sum()}. "
        "What is painted is made up, so part of a difference may be the repair's."
    )
    if not marked.any():
        return says
    before, after = (
        score(part.answers.take(marked), part.images.take(marked), positive=part.scores.positive, rounds=0)
        for part in (with_marks, without)
    )
    moved = [
        f"{words(name, before.positive).says} {before.figures[name].value:.3f} with marks, "
        f"{after.figures[name].value:.3f} without"
        for name in ("dice", "missed", "auc", "accuracy")
        if name in before.figures and name in after.figures
    ]
    return f"{says} On those alone: {'; '.join(moved)}."


def _load(model: str, runtime: str, precision: str, server: str | None) -> Session:
    path = Path(model)
    if path.suffix == ".pt":
        if runtime not in ("auto", "torch"):
            raise DataError(
                f"{model} is a checkpoint: {runtime} runs it once `sonostream export` has made a file"
            )
        # The reference that engines are measured against, unless another precision is asked for.
        narrow = cast(Precision, "fp32" if precision == "auto" else precision)
        return load(path, "torch", precision=narrow, max_batch=8)
    return load(model, runtime, precision=cast(Precision, precision), max_batch=8, server=server)


def _report(
    model: str, session: Session, parts: list[Part], studies: list[Study], found: DataSet, positive: str
) -> Report:
    card, engine = session.card, session.description
    title = f"{card.name} {card.version} in {engine.name} {engine.version} {engine.precision}"
    trained = "; ".join(f"{one.name}: {one.note}" for one in card.training_data)
    facts = [
        ("network", f"{card.network}, {card.parameters:,} parameters, {card.gmacs:g} GMACs a frame"),
        ("input", f"{card.input.height} x {card.input.width} x {card.input.channels}"),
        ("engine", f"{engine.name} {engine.version}, {engine.precision}, on {engine.device}"),
        ("weights", f"{card.precision}{', quantized for ' + card.quantization if card.quantization else ''}"),
        ("temperature", f"{card.temperature:g}"),
        ("trained on", trained or "not recorded"),
        ("notes", card.notes or "none"),
    ]
    path = Path(model)
    if path.is_file():
        facts.append(("sha256", hashlib.sha256(path.read_bytes()).hexdigest()))
    network: Network | None = read_checkpoint(path).network if path.suffix == ".pt" else None
    return Report(
        kind="evaluation",
        title=title,
        subtitle=f"{parts[0].name}, {len(studies)} images",
        parts=parts,
        facts=facts,
        findings=_findings(found, parts[0].name),
        command=shlex.join(["sonostream", *sys.argv[1:]]),
        comparison=_compare(card.network, parts[0], positive),
        network=network,
        model={"name": card.name, "version": card.version, "network": card.network, **engine_json(session)},
    )


def _findings(found: DataSet, part: str) -> dict[str, Any]:
    findings: dict[str, Any] = dict(found.findings)
    if "heldout" in findings and part == _HELD_OUT_NAME:
        says = "images of BUSI's held-out part: the ones that these figures are of"
        findings["heldout"] = {**findings["heldout"], "says": says}
    return findings


def _compare(network: str, part: Part, positive: str) -> Comparison | None:
    made = {
        "images": ", ".join(f"{count} {what}" for what, count in list(part.scores.counts.items())[:3]),
        "split": part.protocol,
        "checkpoint": "see the model's card",
        "positive class": f"{positive}; plain means of all classes beside it",
        "spread": "95 % bootstrap interval over groups of images",
        "distances": "pixels of the 256 grid",
    }
    ours = {name: show(figure) for name, figure in part.scores.figures.items()}
    return compare(network, part.images.sources, ours, made, positive)


def engine_json(session: Session) -> dict[str, Any]:
    """Describe the engine as results.json holds it."""
    engine = session.description
    return {
        "runtime": engine.name,
        "runtime_version": engine.version,
        "precision": engine.precision,
        "device": engine.device,
    }


def _print(report: Report) -> None:
    table = Table(title=report.title, caption="95 % intervals in brackets. Research use only.")
    table.add_column("figure")
    for part in report.parts:
        table.add_column(part.name, justify="right")
    shown = (*MAIN[:1], "dice_benign", "dice_malignant", *MAIN[1:], "calibration_error")
    for row in figure_rows(report.parts, shown):
        table.add_row(row.says, *row.cells)
    Console().print(table)
    for part in report.parts:
        typer.echo(f"{part.name}: {part.protocol}")


def _as_json(model: str, report: Report) -> dict[str, Any]:
    results = {part.name: as_card(part.scores, part.protocol) for part in report.parts}
    return {"model": model, "engine": report.title, "results": results}


def _check(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise DataError(f"{option} is {value!r}; it can be {' or '.join(allowed)}")
