import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from models.ladder import Ladder, Rung
from models.runtimes import available
from streamer.capture_devices import CaptureDevice, capture_devices
from streamer.doctor import Report, collect, render
from streamer.inspection import (
    Accelerator,
    AutoChoice,
    DefaultModel,
    EngineReport,
    Input,
    Package,
    nvidia_gpus,
    optional_packages,
)


@pytest.fixture(scope="module")
def report() -> Report:
    return collect()


def shown(report: Report) -> str:
    console = Console(width=200, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(render(report))
    return capture.get()


def test_the_report_names_every_engine_and_the_one_that_auto_takes(report: Report) -> None:
    usable = [status for status in available() if status.usable]
    (auto,) = (status for status in usable if status.name == report.auto.engine)
    assert report.auto.precision in auto.precisions
    for status in usable:
        assert f"{status.name}" in shown(report)
        assert status.version in shown(report)
    assert f"auto: {report.auto.engine} in {report.auto.precision}: {report.auto.reason}" in shown(report)


def test_what_libav_can_read_is_reported(report: Report) -> None:
    assert report.decoders["h264"]
    assert {source.name for source in report.inputs} == {
        "v4l2", "x11grab", "lavfi", "rtsp", "udp", "tcp", "srt"
    }  # fmt: skip
    assert next(source for source in report.inputs if source.name == "udp").usable


def test_it_says_that_it_is_research_software(report: Report) -> None:
    assert "not a medical device" in shown(report)


def test_a_machine_without_a_gpu_is_told_so(report: Report) -> None:
    assert "no NVIDIA GPU" in shown(dataclasses.replace(report, accelerators=()))


def test_a_gpu_that_nothing_uses_is_not_passed_off_as_used(report: Report) -> None:
    text = shown(dataclasses.replace(report, accelerators=(Accelerator("NVIDIA H200", "580.10"),)))
    assert "NVIDIA H200, driver 580.10" in text
    assert "not used" in text


def test_what_is_missing_comes_with_the_command_that_installs_it(report: Report) -> None:
    text = shown(
        dataclasses.replace(
            report,
            engines=(EngineReport("openvino", False, "", (), "not there", "pip install openvino"),),
            auto=AutoChoice(None, None, "no engine is usable"),
            inputs=(Input("srt", False, "", "apt install ffmpeg"),),
            packages=(
                Package("torch", "train", None, "train networks", "pip install 'torch==2.13.0'"),
                Package("onnx", "train", None, "train networks", "pip install 'onnx>=1.17'"),
            ),
        )
    )
    assert "  pip install openvino\n" in text
    assert "  apt install ffmpeg\n" in text
    assert "  pip install 'torch==2.13.0' 'onnx>=1.17'  # to train networks\n" in text


def test_a_command_is_never_broken_over_two_lines(report: Report) -> None:
    long = "pip install " + " ".join(f"'package{n}>=1'" for n in range(30))
    one = dataclasses.replace(report, engines=(EngineReport("e", False, "", (), "", long),))
    console = Console(width=40, color_system=None)
    with console.capture() as capture:
        console.print(render(one), crop=False)
    assert long in capture.get()


def test_a_damaged_default_model_is_a_line_of_the_report(report: Report) -> None:
    assert "cut short" in shown(dataclasses.replace(report, model=DefaultModel("m.onnx is cut short")))


def test_the_card_of_the_default_model_is_shown(
    report: Report, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tiny = pytest.importorskip("tests.models.tiny", reason="needs the onnx package")
    (tmp_path / "zoo").mkdir()
    tiny.save(tiny.tiny_model(), tmp_path / "zoo" / "default.onnx")
    monkeypatch.setattr("models.artifact.files", lambda _package: tmp_path)

    text = shown(dataclasses.replace(report, model=collect().model))

    assert "tiny 1: arithmetic" in text
    assert "frame 24 x 16 x 1" in text
    assert "classes benign, malignant, normal" in text


def test_names_that_drivers_report_are_shown_as_they_are(report: Report) -> None:
    device = CaptureDevice("/dev/video0", "[red]USB[/red] Video: [0]", True, "")
    assert "[red]USB[/red] Video: [0]" in shown(dataclasses.replace(report, capture_devices=(device,)))


def test_a_node_that_is_no_video_device_is_listed_with_the_reason(tmp_path: Path) -> None:
    devices, classes = tmp_path / "dev", tmp_path / "class"
    for number in (0, 10, 2):
        (classes / f"video{number}").mkdir(parents=True)
        (classes / f"video{number}" / "name").write_text(f"Grabber {number}\n")
    devices.mkdir()
    (devices / "video0").touch()
    (devices / "video10").touch()
    (devices / "video2").symlink_to("/dev/null")

    found = capture_devices(devices, classes)

    assert [device.name for device in found] == ["Grabber 0", "Grabber 2", "Grabber 10"]
    assert {device.problem for device in found} == {"not a video device"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_device_without_permission_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "video0").touch(mode=0o000)
    assert "usermod -aG video" in capture_devices(tmp_path, tmp_path)[0].problem


def test_a_machine_without_devices_lists_none(tmp_path: Path) -> None:
    assert capture_devices(tmp_path / "dev", tmp_path / "class") == []


def test_gpus_are_read_from_the_drivers_own_description(tmp_path: Path) -> None:
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC 2025\n"
        "GCC version: 12\n"
    )
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "gpus" / bus).mkdir(parents=True)
        (tmp_path / "gpus" / bus / "information").write_text("Model: \t\t NVIDIA H200\nIRQ:   \t 38\n")
    assert nvidia_gpus(tmp_path) == [Accelerator("NVIDIA H200", "580.95.05")] * 2


def test_gpus_are_asked_of_nvidia_smi_where_the_driver_describes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 4090, 576.02'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert nvidia_gpus(tmp_path / "none") == [Accelerator("NVIDIA GeForce RTX 4090", "576.02")]


def test_a_failing_nvidia_smi_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed, driver not loaded'\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert nvidia_gpus(tmp_path / "none") == []


def test_packages_of_the_extras_are_looked_up_and_those_of_developers_left_out() -> None:
    found = optional_packages(
        [
            "numpy>=1.26",
            'rich>=13.9; extra == "formats"',
            'no-such-package-at-all<2,>=1; extra == "train"',
            'pytest>=8.3; extra == "dev"',
        ]
    )
    assert [(package.name, package.extra) for package in found] == [
        ("rich", "formats"),
        ("no-such-package-at-all", "train"),
    ]
    assert found[0].version is not None
    assert found[1].version is None
    assert found[1].install == "pip install 'no-such-package-at-all<2,>=1'"


def test_every_optional_package_says_what_it_is_for(report: Report) -> None:
    assert {package.extra for package in report.packages} == {"train", "tensorrt", "kserve", "formats"}
    for package in report.packages:
        assert package.purpose, package.name


def test_the_command_prints_json_for_programs_without_importing_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['onnx'] = None\n"
        "from streamer.cli import main; sys.argv = ['sonostream', 'doctor', '--json']; main()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(json.loads(run.stdout)) == {field.name for field in dataclasses.fields(Report)}
    assert run.stderr == ""


def test_the_models_that_ship_are_shown_with_the_one_that_auto_takes(report: Report) -> None:
    best = Rung("large", "1", "0" * 64, 0.8, "openvino", "bf16", 30.0, 41.0)
    taken = Rung("small", "1", "1" * 64, 0.7, "openvino", "bf16", 5.0, 6.0)
    ladder = Ladder((best, taken), "small", 1000 / 30)
    text = shown(dataclasses.replace(report, ladder=ladder))
    assert (
        'model.artifact = "auto", 30 fps: small, the most accurate of 2 that is fast enough: p99 6 ms' in text
    )
    assert "Dice and AUC 0.800  p99 41 ms on openvino bf16" in text
