"""`sonostream doctor`: what this machine has, what is missing, and the command that installs it."""

from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec
import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from models.ladder import Ladder
from models.runtimes import ENGINES
from streamer.inspection import DefaultModel, Report, collect

__all__ = ["Report", "collect", "doctor_command", "render"]

_GOOD, _BAD = ("yes", "green"), ("no", "red")


def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Say what this machine has, what is missing, and the command that installs it."""
    report = collect()
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        Console().print(render(report), crop=False)  # cropping would cut long commands off


def render(report: Report) -> RenderableType:
    """Lay a report out for a terminal."""
    machine = report.machine
    sets = ", ".join(machine.instruction_sets) or "no notable instruction sets"
    parts: list[RenderableType] = [
        Text(f"sonostream {machine.sonostream} on Python {machine.python}, {machine.system}"),
        Text(f"{machine.processor}, {machine.usable_cores} usable cores; {sets}"),
        _heading("Engines"),
        _table(
            (engine.name, engine.usable, engine.version, ", ".join(engine.precisions) or engine.problem)
            for engine in report.engines
        ),
        Text(f"auto: {report.auto.engine} in {report.auto.precision}: {report.auto.reason}")
        if report.auto.engine
        else Text(f"auto: {report.auto.reason}", "red"),
        _heading("Accelerators"),
        *_accelerators(report),
        _heading("Default model"),
        *_model(report.model),
        *_models_that_ship(report.ladder),
        _heading("Capture devices"),
        _table((device.path, device.usable, device.name, device.problem) for device in report.capture_devices)
        if report.capture_devices
        else Text("none: there is no /dev/video*"),
        _heading(f"Video: PyAV {report.pyav}, FFmpeg {report.ffmpeg}"),
        _table((source.name, source.usable, source.by, source.install) for source in report.inputs),
        Text("decoders: " + (", ".join(name for name, there in report.decoders.items() if there) or "none")),
    ]
    missing_decoders = [name for name, there in report.decoders.items() if not there]
    if missing_decoders:
        parts.append(Text(f"decoders missing: {', '.join(missing_decoders)}", "yellow"))
    if report.packages:
        parts += [
            _heading("Optional packages"),
            _table(
                (package.name, package.version is not None, package.version or "", package.purpose)
                for package in report.packages
            ),
        ]
    commands = list(_commands(report))
    if commands:
        parts += [_heading("To install what is missing"), *map(_command, commands)]
    parts += [Text(), Text("Research use only: not a medical device.", "bold")]
    return Group(*parts)


def _commands(report: Report) -> Iterator[str]:
    # Of use to everyone are the engines that need neither a checkpoint, nor a server, nor a GPU.
    special = {name for name, engine in ENGINES.items() if engine.reads != "artifact"}
    if not report.accelerators:
        special.add("tensorrt")
    for engine in report.engines:
        if not engine.usable and engine.name not in special:
            yield engine.install
    yield from dict.fromkeys(source.install for source in report.inputs if not source.usable)
    for extra in dict.fromkeys(package.extra for package in report.packages):
        missing = [item for item in report.packages if item.extra == extra and item.version is None]
        # TensorRT needs a GPU, and an engine of ours to use it.
        useful = extra != "tensorrt" or ("tensorrt" in ENGINES and report.accelerators)
        if missing and useful:
            names = " ".join(item.install.removeprefix("pip install ") for item in missing)
            yield f"pip install {names}  # to {missing[0].purpose}"


def _accelerators(report: Report) -> Iterator[Text]:
    for gpu in report.accelerators:
        yield Text(f"{gpu.name}, driver {gpu.driver}")
    if not report.accelerators:
        yield Text("no NVIDIA GPU: models run on the processor")
    elif not any(engine.name == "tensorrt" and engine.usable for engine in report.engines):
        yield Text("not used by exported models: see tensorrt above", "yellow")


def _model(model: DefaultModel) -> Iterator[Text]:
    if model.problem or model.card is None:
        yield Text(model.problem, "red")
        return
    card = model.card
    size = card["input"]
    yield Text(
        f"{card['name']} {card['version']}: {card['network']}, "
        f"{card['parameters'] / 1e6:.2f} million weights, {card['gmacs']:.2f} GMACs, "
        f"{card['precision']}, {card['date']}"
    )
    yield Text(
        f"frame {size['height']} x {size['width']} x {size['channels']} (height x width x channels); "
        f"classes {', '.join(card['classes'])}"
    )
    for data in card["training_data"]:
        yield Text(f"trained on {data['name']} ({data['licence']})")
    yield Text(f"intended use: {card['intended_use']}")
    yield Text(f"{model.path}, sha256 {(model.sha256 or '')[:16]}...", "dim")


def _models_that_ship(ladder: Ladder | None) -> Iterator[RenderableType]:
    if ladder is None:
        return
    yield Text(
        f'model.artifact = "auto", {1e3 / ladder.interval_ms:.0f} fps: {ladder.taken}, {ladder.reason}'
    )
    if len(ladder.rungs) > 1:
        yield _table(
            (
                rung.name,
                rung.name == ladder.taken,
                "not comparable" if rung.accuracy is None else f"Dice and AUC {rung.accuracy:.3f}",
                rung.problem or f"p99 {rung.p99_ms:.3g} ms on {rung.runtime} {rung.precision}",
            )
            for rung in ladder.rungs
        )


def _command(command: str) -> Text:
    # Never wrapped: it is there to be copied.
    return Text(f"  {command}", no_wrap=True, overflow="ignore")


def _heading(title: str) -> Text:
    return Text(f"\n{title}", "bold")


def _table(rows: Iterable[tuple[str, bool, str, str]]) -> Table:
    """Rows of name, whether it is there, and two remarks; text of devices and drivers is shown as it is."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, there, first, second in rows:
        word, style = _GOOD if there else _BAD
        table.add_row(Text(name), Text(word, style), Text(first), Text(second))
    return table
