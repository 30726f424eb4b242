"""The model repository is what Triton reads: checked with Triton's own schema."""

from pathlib import Path

import pytest

pytest.importorskip("tritonclient.grpc", reason="reads it with the client's schema")

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from models.artifact import load_artifact
from models.triton import write_repository
from tests.models.tiny import HEIGHT, WIDTH


def configuration(folder: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def test_a_repository_describes_the_model_to_triton(tiny: Path, tmp_path: Path) -> None:
    artifact = load_artifact(tiny)
    folder = write_repository(artifact, tmp_path / "repository", max_batch=8, instances=2)
    config = configuration(folder)
    assert folder.name == config.name == "tiny"
    assert (folder / "1" / config.default_model_filename).read_bytes() == tiny.read_bytes()
    assert config.max_batch_size == 8
    assert list(config.input[0].dims) == [HEIGHT, WIDTH, 1]
    assert {output.name: list(output.dims) for output in config.output} == {
        "lesion": [HEIGHT, WIDTH],
        "classes": [3],
    }
    assert config.input[0].data_type == model_config_pb2.TYPE_UINT8
    assert config.HasField("dynamic_batching")
    assert config.instance_group[0].count == 2
    assert config.parameters["sonostream_sha256"].string_value == artifact.sha256


def test_tensorrt_is_asked_for_by_its_name(tiny: Path, tmp_path: Path) -> None:
    config = configuration(write_repository(load_artifact(tiny), tmp_path, backend="tensorrt"))
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert [each.name for each in accelerators] == ["tensorrt"]
    plain = configuration(write_repository(load_artifact(tiny), tmp_path))
    assert not plain.HasField("optimization")


def test_a_repository_on_a_processor_says_so(tiny: Path, tmp_path: Path) -> None:
    config = configuration(write_repository(load_artifact(tiny), tmp_path, gpu=False))
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
