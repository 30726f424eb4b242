"""`model.artifact = "auto"`: the most accurate model that ships and keeps up on this machine."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="models of known cost are made with the onnx package")
from onnx import ModelProto, helper, numpy_helper

from models.artifact import Artifact, ArtifactError, load_artifact, zoo_names
from models.ladder import SHARE, Ladder, accuracy, climb
from models.runtimes.base import EngineError, EngineFailed, RuntimeDescription, Session
from tests.models.tiny import save, tiny_card, tiny_model
from tests.streamer.running import running

COST_S = {"plain": 0.002, "good": 0.010, "best": 0.040}
FIGURES = {"plain": 0.6, "good": 0.7, "best": 0.8}


def figures(value: float) -> dict[str, Any]:
    return {"busi_heldout": {"dice": {"value": value - 0.1}, "auc": {"value": value + 0.1}}}


def model(name: str, **changes: Any) -> ModelProto:
    return tiny_model(card=tiny_card(name=name, metrics=figures(FIGURES[name]), **changes))


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of models that ship, with three of them."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    for name in COST_S:
        save(model(name), folder / f"{name}.onnx")
    monkeypatch.setattr("models.artifact.files", lambda _package: tmp_path)
    return folder


class Time:
    """A clock that only the engine moves, and the engines that move it."""

    def __init__(self) -> None:
        self.now, self.loaded = 0.0, list[str]()

    def __call__(self) -> float:
        return self.now

    def load(self, artifact: Artifact, **wanted: Any) -> Session:
        self.loaded.append(artifact.card.name)
        return Paced(artifact, self, wanted["max_batch"])


class Paced(Session):
    def __init__(self, artifact: Artifact, time: Time, max_batch: int) -> None:
        description = RuntimeDescription("paced", "1", "fp32", "none", 1)
        super().__init__(artifact.card, description, max_batch=max_batch)
        self._time = time

    def _run(self, n: int) -> None:
        self._time.now += COST_S[self.card.name] * n
        self._outputs["classes"][:n] = 0.5

    def _release(self) -> None:
        pass


def taken(fps: float, **options: Any) -> Ladder:
    time = Time()
    artifact, result = climb(fps=fps, load_into=time.load, clock=time, **options)
    assert artifact.card.name == result.taken
    return result


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(("fps", "expected"), [(15, "best"), (30, "good"), (60, "good"), (120, "plain")])
def test_the_most_accurate_model_that_keeps_up_is_taken(fps: float, expected: str) -> None:
    result = taken(fps)
    assert result.taken == expected
    assert result.keeps_up
    assert [rung.name for rung in result.rungs] == ["best", "good", "plain"]
    assert [rung.p99_ms for rung in result.rungs] == pytest.approx([40, 10, 2])


@pytest.mark.usefixtures("zoo")
def test_a_part_of_the_interval_is_left_to_everything_else() -> None:
    exactly = SHARE / COST_S["good"]
    assert taken(exactly * 0.99).taken == "good"
    assert taken(exactly * 1.01).taken == "plain"


@pytest.mark.usefixtures("zoo")
def test_several_sources_share_the_interval() -> None:
    assert taken(30, batch=2).taken == "good"
    assert taken(30, batch=3).taken == "plain"


@pytest.mark.usefixtures("zoo")
def test_where_none_keeps_up_the_fastest_is_taken_and_said_to_be_too_slow() -> None:
    result = taken(1000)
    assert result.taken == "plain"
    assert not result.keeps_up
    assert "too slow for every frame" in result.reason


def test_one_model_is_measured_and_taken(zoo: Path) -> None:
    for other in ("plain", "best"):
        (zoo / f"{other}.onnx").unlink()
    result = taken(30)
    assert result.taken == "good"
    assert result.reason == "the only model that ships, fast enough: p99 10 ms of 33.3 ms between frames"


@pytest.mark.usefixtures("zoo")
def test_a_model_is_measured_once_for_each_machine_and_batch(tmp_path: Path) -> None:
    time = Time()
    options = {"cache_dir": tmp_path / "cache", "load_into": time.load, "clock": time}
    first = climb(fps=30, **options)[1]
    again = climb(fps=30, **options)[1]
    assert again == first
    assert time.loaded == ["best", "good", "plain"]
    climb(fps=30, batch=2, **options)
    assert len(time.loaded) == 6


def test_a_file_of_another_content_is_measured_anew(zoo: Path, tmp_path: Path) -> None:
    time = Time()
    options = {"fps": 30, "cache_dir": tmp_path / "cache", "load_into": time.load, "clock": time}
    climb(**options)
    save(model("good", version="2"), zoo / "good.onnx")
    climb(**options)
    assert time.loaded[3:] == ["good"]


def test_a_damaged_cache_is_measured_anew(zoo: Path, tmp_path: Path) -> None:  # noqa: ARG001
    time = Time()
    options = {"fps": 30, "cache_dir": tmp_path / "cache", "load_into": time.load, "clock": time}
    first = climb(**options)[1]
    for file in (tmp_path / "cache" / "ladder").iterdir():
        file.write_text("{")
    assert climb(**options)[1] == first


def test_a_model_that_is_damaged_unmeasured_or_refused_is_passed_over(zoo: Path) -> None:
    (zoo / "best.onnx").write_bytes(b"nothing")
    save(tiny_model(card=tiny_card(name="unjudged")), zoo / "unjudged.onnx")
    time = Time()

    def load_into(artifact: Artifact, **wanted: Any) -> Session:
        if artifact.card.name == "good":
            raise EngineFailed("it refuses the model")
        return time.load(artifact, **wanted)

    result = climb(fps=30, load_into=load_into, clock=time)[1]
    assert result.taken == "plain"
    problems = {rung.name: rung.problem for rung in result.rungs}
    assert "busi_heldout" in problems["unjudged"]
    assert problems["good"] == "it refuses the model"


@pytest.mark.usefixtures("zoo")
def test_an_engine_that_refuses_all_of_them_is_quoted() -> None:
    def refuse(*_: Any, **__: Any) -> Session:
        raise EngineFailed("no such instruction")

    with pytest.raises(EngineError, match="no such instruction"):
        climb(fps=30, load_into=refuse)


@pytest.mark.usefixtures("zoo")
def test_only_models_with_the_classes_asked_for_are_considered() -> None:
    with pytest.raises(ArtifactError, match="no model that ships has the classes cyst, solid"):
        climb(fps=30, classes=("cyst", "solid"))


def test_accuracy_counts_where_and_what_alike_and_never_the_phantom() -> None:
    figures = {"dice": {"value": 0.6}, "auc": {"value": 0.9}}
    assert accuracy(tiny_card(metrics={"busi_heldout": figures})) == pytest.approx(0.75)
    assert accuracy(tiny_card(metrics={"phantom": figures})) is None
    assert accuracy(tiny_card(metrics={"busi_heldout": {"dice": "good"}})) is None


def heavier(model: ModelProto, side: int = 256) -> ModelProto:
    """Make a model multiply large matrices for every frame; its answer stays the same."""
    powers = ["ballast", *(f"power{step}" for step in range(4))]
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Mul", ["top", "root"], ["ballast"]),
        *(helper.make_node("MatMul", [base, "root"], [power]) for base, power in pairwise(powers)),
        helper.make_node("Mul", [powers[-1], "nothing"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["unchanged", "zero"], ["scale"]),
    ]
    graph = model.graph
    (scale,) = (each for each in graph.initializer if each.name == "scale")
    scale.name = "unchanged"
    constants = {"root": np.eye(side, dtype=np.float32), "nothing": np.float32(0)}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    cast, *rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([cast, *nodes, *rest])
    return model


def test_real_engines_run_the_cheap_model_faster_and_the_deadline_decides(zoo: Path, tmp_path: Path) -> None:
    (zoo / "best.onnx").unlink()
    save(heavier(model("good")), zoo / "good.onnx")
    options = {"runtime": "onnxruntime", "threads": 1, "cache_dir": tmp_path / "cache"}

    patient, slow = climb(fps=0.01, **options)
    hurried, fast = climb(fps=1e7, **options)

    assert (slow.taken, slow.keeps_up) == ("good", True)
    assert patient == load_artifact("good")
    good, plain = fast.rungs
    assert good.p50_ms > plain.p50_ms
    assert fast.taken == min(fast.rungs, key=lambda rung: rung.p99_ms).name
    assert hurried == load_artifact(fast.taken)
    assert not fast.keeps_up
    assert {rung.runtime for rung in slow.rungs} == {"onnxruntime"}


def test_the_model_that_ships_is_judged() -> None:
    if "default" not in zoo_names():
        pytest.skip("no model ships with this checkout")
    card = load_artifact("default").card
    assert 0.5 < (accuracy(card) or 0) < 1


def test_a_daemon_takes_the_model_and_says_why(tmp_path: Path) -> None:
    with running("auto", "phantom:?width=96&height=96", XDG_CACHE_HOME=str(tmp_path)) as daemon:
        daemon.wait_for(lambda: daemon.status()["ready"], within_s=100)  # it measures first
        model = daemon.status()["model"]
    assert model["sha256"] == load_artifact(model["name"]).sha256
    assert "that ships" in model["chosen"]
    assert list((tmp_path / "sonostream" / "ladder").glob("*.json"))
