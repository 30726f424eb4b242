"""Models small enough to compute by hand."""

from pathlib import Path

import pytest

pytest.importorskip(
    "onnx", reason="builds its models with the onnx package (pip install 'sonostream[train]')"
)

from tests.models.tiny import save, tiny_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's file; read only."""
    return save(tiny_model(), tmp_path_factory.mktemp("tiny") / "tiny.onnx")


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where networks are exported to, once for all tests."""
    return tmp_path_factory.mktemp("exports")
