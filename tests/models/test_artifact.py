import hashlib
import subprocess
import sys
from pathlib import Path

import msgspec
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from models.artifact import (
    ArtifactError,
    InputSize,
    ModelCard,
    card_json,
    load_artifact,
    read_card,
    zoo_names,
)
from tests.models.tiny import HEIGHT, WIDTH, save, tiny_card, tiny_model


def refused(path: Path, match: str) -> None:
    with pytest.raises(ArtifactError, match=match) as caught:
        load_artifact(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_card_comes_back_as_it_was_written(tiny: Path) -> None:
    assert read_card(tiny) == tiny_card()


def test_an_artifact_names_its_file_by_its_hash(tiny: Path) -> None:
    assert load_artifact(tiny).sha256 == hashlib.sha256(tiny.read_bytes()).hexdigest()


def test_onnx_itself_accepts_the_file(tiny: Path) -> None:
    onnx.checker.check_model(str(tiny), full_check=True)


def test_unknown_fields_of_a_card_are_ignored(tmp_path: Path) -> None:
    text = card_json(tiny_card())[:-1] + ',"invented_later":[1]}'
    assert read_card(save(tiny_model(metadata=text), tmp_path / "m.onnx")) == tiny_card()


def test_reading_a_card_needs_neither_onnx_nor_an_engine_nor_torch(tiny: Path) -> None:
    heavy = ("onnx", "torch", "openvino", "onnxruntime", "google.protobuf")
    code = (
        "import sys; from models.artifact import load_artifact; "
        f"load_artifact({str(tiny)!r}); print([m for m in {heavy} if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", "no such model file")


def test_a_folder_is_not_a_model(tmp_path: Path) -> None:
    refused(tmp_path, "is not a file")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.touch()
    refused(path, "is empty")


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n" + bytes(100), b"<!DOCTYPE html><html></html>", b"\xff" * 64, bytes(64)]
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    refused(path, "not an ONNX model")


def test_a_file_cut_anywhere_is_refused(tmp_path: Path, tiny: Path) -> None:
    whole = tiny.read_bytes()
    path = tmp_path / "m.onnx"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ArtifactError):
            load_artifact(path)


def test_a_truncated_file_is_called_cut_short(tmp_path: Path, tiny: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny.read_bytes()[:300])
    refused(path, "damaged or cut short")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(at=st.integers(0, 800), patch=st.binary(min_size=1, max_size=12))
def test_damage_is_an_artifact_error_or_harmless(tmp_path: Path, tiny: Path, at: int, patch: bytes) -> None:
    content = bytearray(tiny.read_bytes())
    content[at : at + len(patch)] = patch
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    try:
        artifact = load_artifact(path)
    except ArtifactError:
        return
    assert artifact.card.input == InputSize(height=HEIGHT, width=WIDTH, channels=1)


def test_a_length_beyond_the_file_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x09" + b"\x3a\xff\xff\xff\xff\x0f" + b"graph")
    refused(path, "a field of 4294967295 bytes where 5 are left")


def test_an_onnx_file_of_others_is_told_from_ours(tmp_path: Path) -> None:
    refused(save(tiny_model(metadata=""), tmp_path / "m.onnx"), "not exported for sonostream")


def test_a_card_that_is_not_json_is_refused(tmp_path: Path) -> None:
    refused(save(tiny_model(metadata="{"), tmp_path / "m.onnx"), "its card cannot be read")


def test_a_card_without_a_field_names_the_field(tmp_path: Path) -> None:
    card = msgspec.to_builtins(tiny_card())
    del card["classes"]
    text = msgspec.json.encode(card).decode()
    refused(save(tiny_model(metadata=text), tmp_path / "m.onnx"), "`classes`")


def test_a_card_of_a_later_schema_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = save(tiny_model(metadata='{"schema":2,"all":"new"}'), tmp_path / "m.onnx")
    refused(path, "schema 2, this version reads up to 1; upgrade")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"classes": ()}, "different names"),
        ({"classes": ("a", "a", "b")}, "different names"),
        ({"classes": ("a", "b", "\x1b[2J")}, "printable"),
        ({"name": ""}, "printable"),
        ({"temperature": 0.0}, "temperature"),
        ({"input": InputSize(height=0, width=16, channels=1)}, "0 x 16 x 1"),
        ({"input": InputSize(height=10**6, width=16, channels=1)}, "sides of 1 to 4096"),
        ({"input": InputSize(height=24, width=16, channels=4)}, "1 or 3 channels"),
        ({"schema": 0}, "schema is 0"),
    ],
)
def test_a_card_with_impossible_values_is_neither_written_nor_read(
    tmp_path: Path, changes: dict[str, object], match: str
) -> None:
    card: ModelCard = tiny_card(**changes)
    with pytest.raises(ArtifactError, match=match):
        card_json(card)
    refused(save(tiny_model(metadata=msgspec.json.encode(card).decode()), tmp_path / "m.onnx"), match)


def value(name: str, element: int, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        (
            value("image", TensorProto.UINT8, ["N", HEIGHT, WIDTH, 1]),
            r"one input named 'frame', got \['image'\]",
        ),
        (value("frame", TensorProto.FLOAT, ["N", HEIGHT, WIDTH, 1]), "is float32 .* expected uint8"),
        (value("frame", TensorProto.UINT8, ["N", HEIGHT, WIDTH]), r"is uint8 \[N, 24, 16\], expected"),
        (value("frame", TensorProto.UINT8, ["N", 1, HEIGHT, WIDTH]), r"\[N, 1, 24, 16\], expected"),
        (
            value("frame", TensorProto.UINT8, [1, HEIGHT, WIDTH, 1]),
            r"\[1, 24, 16, 1\], expected uint8 \[N, 24",
        ),
    ],
)
def test_an_input_that_breaks_the_contract_is_refused(
    tmp_path: Path, frame: onnx.ValueInfoProto, match: str
) -> None:
    model = tiny_model()
    model.graph.input[0].CopyFrom(frame)
    refused(save(model, tmp_path / "m.onnx"), match)


def test_a_second_input_is_refused(tmp_path: Path) -> None:
    model = tiny_model()
    model.graph.input.append(value("more", TensorProto.FLOAT, [1]))
    refused(save(model, tmp_path / "m.onnx"), "one input named")


def test_a_missing_output_is_named(tmp_path: Path) -> None:
    model = tiny_model()
    del model.graph.output[0]
    refused(save(model, tmp_path / "m.onnx"), "no output 'lesion'")


def test_a_card_with_another_number_of_classes_than_the_graph_is_refused(tmp_path: Path) -> None:
    card = tiny_card(classes=("benign", "malignant"))
    refused(save(tiny_model(card=card), tmp_path / "m.onnx"), r"'classes' is float32 \[N, 3\], expected")


def test_weights_kept_in_another_file_are_refused(tmp_path: Path) -> None:
    model = tiny_model()
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../elsewhere")
    refused(save(model, tmp_path / "m.onnx"), "weights in another file")


def test_an_unknown_name_lists_the_models_that_ship() -> None:
    with pytest.raises(ArtifactError, match="no model named 'nosuch'; models that ship"):
        load_artifact("nosuch")


def test_every_model_that_ships_keeps_the_contract() -> None:
    if not zoo_names():
        pytest.skip("no model in models/zoo yet")
    for name in zoo_names():
        assert load_artifact(name).card.name


def test_a_missing_default_model_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("models.artifact.files", lambda _package: tmp_path)
    with pytest.raises(ArtifactError, match="default model is missing.*reinstall"):
        load_artifact("default")
