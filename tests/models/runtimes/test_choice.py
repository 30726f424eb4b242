"""How an engine is chosen, and what is said of those that cannot be used."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from models import runtimes
from models.runtimes import ENGINES, EngineUnavailable, available, load
from models.runtimes.base import RuntimeDescription, Session


def run(code: str, *, blocked: tuple[str, ...] = ()) -> str:
    """Run code in a fresh interpreter where some packages cannot be found."""
    finder = (
        "import sys, importlib.abc\n"
        "class Blocked(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {blocked}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
    )
    done = subprocess.run([sys.executable, "-c", finder + code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_runtimes_imports_no_engine_and_no_torch() -> None:
    heavy = ("torch", "onnx", "openvino", "onnxruntime", "tensorrt")
    code = f"import sys, models.runtimes; print([m for m in {heavy} if m in sys.modules])"
    assert run(code) == "[]"


def test_a_model_runs_where_torch_is_not_installed(tiny: Path) -> None:
    code = (
        "from models.runtimes import load\n"
        f"session = load({str(tiny)!r}); session.warm_up(); print(session.infer().lesion.shape)"
    )
    assert run(code, blocked=("torch", "onnx")) == "(1, 24, 16)"


def test_auto_goes_on_to_the_next_engine_where_the_first_is_absent(tiny: Path) -> None:
    code = f"from models.runtimes import load; print(load({str(tiny)!r}).description.name)"
    assert run(code, blocked=("openvino",)) == "onnxruntime"


def test_a_choice_that_is_kept_costs_no_import_of_the_engines_that_were_not_taken(
    tiny: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="nothing to choose from without a second engine")
    code = (
        "import sys, pathlib; from models.runtimes import load\n"
        f"name = load({str(tiny)!r}, cache_dir=pathlib.Path({str(tmp_path)!r})).description.name\n"
        "print(name, *(each for each in ('openvino', 'onnxruntime') if each in sys.modules))"
    )
    first, again = run(code).split(), run(code).split()
    assert first[1:] == ["openvino", "onnxruntime"]
    assert again == [first[0], first[0]]


def test_an_engine_that_is_gone_is_chosen_without(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="nothing to choose from without a second engine")
    code = (
        "import pathlib; from models.runtimes import load\n"
        f"print(load({str(tiny)!r}, cache_dir=pathlib.Path({str(tmp_path)!r})).description.name)"
    )
    taken = run(code)
    assert run(code, blocked=(taken,)) != taken


def test_an_absent_engine_is_a_status_with_the_command_that_installs_it() -> None:
    code = "import json; from models.runtimes import available; print(json.dumps(available()[1]._asdict()))"
    status = json.loads(run(code, blocked=("openvino",)))
    assert (status["name"], status["usable"], status["version"]) == ("openvino", False, "")
    assert status["install"] == "pip install openvino"
    assert status["reason"] == "openvino is not installed: pip install openvino"


def test_no_engine_at_all_is_one_clear_line(tiny: Path) -> None:
    code = (
        "from models.runtimes import EngineUnavailable, load\n"
        f"try: load({str(tiny)!r})\n"
        "except EngineUnavailable as error: print(error)"
    )
    said = run(code, blocked=("openvino", "onnxruntime"))
    assert said.startswith("no engine is usable: tensorrt ")
    assert said.endswith(
        "openvino is not installed: pip install openvino; "
        "onnxruntime is not installed: pip install onnxruntime"
    )


def test_an_engine_that_is_installed_but_broken_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('libtbb.so.12: cannot open shared object file')")
    code = (
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from models.runtimes import available; print(available()[1].reason)"
    )
    assert run(code) == (
        "openvino is installed but does not load: libtbb.so.12: cannot open shared object file"
    )


def test_an_unknown_engine_lists_those_there_are(tiny: Path) -> None:
    with pytest.raises(
        EngineUnavailable, match="no runtime named 'onnx'; known are: auto, tensorrt, openvino, onnxr"
    ):
        load(tiny, "onnx")


def test_every_engine_of_the_table_has_a_status() -> None:
    assert [status.name for status in available()] == list(ENGINES)


def test_an_engine_that_writes_nothing_never_repeats_the_last_answer(tiny: Path) -> None:
    class Idle(Session):
        def _run(self, n: int) -> None:
            pass

        def _release(self) -> None:
            pass

    session = Idle(
        runtimes.load_artifact(tiny).card, RuntimeDescription("idle", "0", "fp32", "none", 1), max_batch=1
    )
    session.input()  # its buffers start as zeros, which would pass for probabilities
    with pytest.raises(runtimes.PredictionInvalid, match="nan"):
        session.infer()


def test_compiled_models_are_kept_for_the_next_start(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="only OpenVINO keeps compiled models")
    folder = tmp_path / "new" / "cache"
    load(tiny, "openvino", cache_dir=folder).warm_up()
    blobs = list(folder.glob("*.blob"))
    assert len(blobs) == 1
    load(tiny, "openvino", cache_dir=folder).warm_up()
    assert list(folder.glob("*.blob")) == blobs


@pytest.mark.parametrize("damage", [b"", b"\x00" * 4096, b"not a compiled model"])
def test_a_damaged_compiled_model_is_made_again(tiny: Path, tmp_path: Path, damage: bytes) -> None:
    pytest.importorskip("openvino", reason="only OpenVINO keeps compiled models")
    load(tiny, "openvino", cache_dir=tmp_path)
    (blob,) = tmp_path.glob("*.blob")
    blob.write_bytes(damage)
    load(tiny, "openvino", cache_dir=tmp_path).warm_up()


def test_a_cache_that_cannot_be_written_is_a_warning(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino", reason="only OpenVINO keeps compiled models")
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        load(tiny, "openvino", cache_dir=tmp_path / "file" / "cache").warm_up()
    assert "compiled models are not kept" in caplog.text
    assert "Not a directory" in caplog.text
