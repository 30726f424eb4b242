"""`auto` takes what was measured to be fastest, once for each model and machine."""

import json
import time
from pathlib import Path

import pytest

from models import runtimes
from models.artifact import Artifact, load_artifact
from models.runtimes import (
    Choice,
    EngineUnavailable,
    FramesInvalid,
    RuntimeStatus,
    choice,
    choose_for,
    load,
)
from models.runtimes.base import EngineFailed, RuntimeDescription, Session
from models.runtimes.choice import Candidate, choose_fastest
from tests.models.tiny import save, tiny_card, tiny_model

FAST, SLOW, BROKEN = (Candidate(name, "1", "fp32") for name in ("fast", "slow", "broken"))


class Paced(Session):
    """An engine that takes a known time."""

    def __init__(self, artifact: Artifact, seconds: float) -> None:
        super().__init__(artifact.card, RuntimeDescription("paced", "1", "fp32", "none", 1), max_batch=1)
        self._seconds = seconds

    def _run(self, n: int) -> None:
        time.sleep(self._seconds)
        self._outputs["classes"][:n] = 0.5

    def _release(self) -> None:
        pass


class Loads:
    """Loads paced engines and counts how often it was asked."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact, self.calls = artifact, 0
        self.sessions: list[Paced] = []

    def __call__(self, candidate: Candidate) -> Session:
        self.calls += 1
        if candidate.runtime == "broken":
            raise EngineFailed("it refuses the model")
        self.sessions.append(Paced(self.artifact, 0.001 if candidate.runtime == "fast" else 0.01))
        return self.sessions[-1]


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_remembered", {})


@pytest.fixture
def loads(tiny: Path) -> Loads:
    return Loads(load_artifact(tiny))


def choose(loads: Loads, candidates: list[Candidate], cache_dir: Path | None = None) -> Choice:
    return choose_fastest(loads.artifact, candidates, loads, threads=1, cache_dir=cache_dir)


def test_the_fastest_is_taken_whatever_the_order(loads: Loads) -> None:
    assert choose(loads, [SLOW, FAST]).runtime == "fast"


def test_the_reason_shows_what_was_measured(loads: Loads) -> None:
    reason = choose(loads, [SLOW, FAST]).reason
    assert reason.startswith("measured on this machine, one frame: fast fp32 ")
    assert "slow fp32" in reason


def test_every_session_that_was_measured_is_closed(loads: Loads) -> None:
    choose(loads, [SLOW, FAST])
    for session in loads.sessions:
        with pytest.raises(EngineFailed, match="closed"):
            session.infer(1)


def test_a_choice_is_measured_once_and_kept(
    loads: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = choose(loads, [SLOW, FAST], tmp_path)
    monkeypatch.setattr(choice, "_remembered", {})
    assert choose(loads, [SLOW, FAST], tmp_path) == first
    assert loads.calls == 2


def test_another_version_of_an_engine_is_measured_again(loads: Loads, tmp_path: Path) -> None:
    choose(loads, [SLOW, FAST], tmp_path)
    choose(loads, [SLOW, FAST._replace(version="2")], tmp_path)
    assert loads.calls == 4


@pytest.mark.parametrize("damage", [b"", b"{", b'{"runtime": "gone", "precision": "fp32"}', b"[]"])
def test_a_damaged_record_is_measured_again(
    loads: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    choose(loads, [SLOW, FAST], tmp_path)
    (file,) = (tmp_path / "choices").iterdir()
    file.write_bytes(damage)
    monkeypatch.setattr(choice, "_remembered", {})
    assert choose(loads, [SLOW, FAST], tmp_path).runtime == "fast"
    assert json.loads(file.read_bytes())["runtime"] == "fast"


def test_an_engine_that_refuses_the_model_is_passed_over_and_named(loads: Loads) -> None:
    chosen = choose(loads, [BROKEN, SLOW])
    assert chosen.runtime == "slow"
    assert "could not run it: it refuses the model" in chosen.reason


def test_where_none_can_run_the_model_the_first_says_why(loads: Loads) -> None:
    with pytest.raises(EngineFailed, match="it refuses the model"):
        choose(loads, [BROKEN, BROKEN._replace(version="2")])


def test_the_only_engine_is_not_measured(loads: Loads) -> None:
    assert choose(loads, [SLOW]).reason == "the only engine that is usable here"
    assert loads.calls == 0


def test_no_further_engine_is_tried_when_the_time_is_up(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "BUDGET_S", 0.0)
    assert choose(loads, [SLOW, FAST]).runtime == "slow"
    assert loads.calls == 1


def test_auto_runs_what_was_chosen(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="nothing to choose from without a second engine")
    chosen = choose_for(load_artifact(tiny), cache_dir=tmp_path)
    description = load(tiny, cache_dir=tmp_path).description
    assert (description.name, description.precision) == (chosen.runtime, chosen.precision)
    assert len(chosen.timings) >= 2


def test_a_gpu_comes_before_any_measurement_but_not_for_a_file_it_cannot_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = [
        RuntimeStatus(name, True, "1", ("fp32",), "", "") for name in ("tensorrt", "openvino", "onnxruntime")
    ]
    monkeypatch.setattr(runtimes, "available", lambda **_: statuses.copy())
    monkeypatch.setattr(runtimes, "choose_fastest", lambda _a, candidates, *_, **__: candidates)
    chosen = choose_for(load_artifact(tiny))
    assert (chosen.runtime, chosen.reason) == ("tensorrt", "there is an NVIDIA GPU for it")
    for_processors = tiny_model(card=tiny_card(precision="int8", quantization="cpu"))
    artifact = load_artifact(save(for_processors, tmp_path / "cpu.onnx"))
    candidates = choose_for(artifact)
    assert [candidate.runtime for candidate in candidates] == ["openvino", "onnxruntime"]  # type: ignore[attr-defined]


def test_auto_keeps_to_the_precision_that_is_asked_for(tiny: Path) -> None:
    assert {timing.precision for timing in choose_for(load_artifact(tiny), precision="fp32").timings} <= {
        "fp32"
    }


def test_a_precision_that_no_engine_has_is_refused(tiny: Path) -> None:
    with pytest.raises(EngineUnavailable, match="precision 'fp16': no engine here computes in it"):
        load(tiny, precision="fp16")


def test_a_choice_that_cannot_be_kept_is_a_warning(
    loads: Loads, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert choose(loads, [SLOW, FAST], tmp_path / "file").runtime == "fast"
    assert "is not kept" in caplog.text


def test_an_impossible_batch_is_refused_after_the_choice_too(tiny: Path) -> None:
    with pytest.raises(FramesInvalid, match="max_batch is 0"):
        load(tiny, max_batch=0)
