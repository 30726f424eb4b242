"""A configuration may name the classes it is made for."""

from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="builds its model with the onnx package (pip install 'sonostream[train]')")

from models.artifact import ArtifactError, load_artifact
from streamer.daemon import check_classes
from tests.models.tiny import save, tiny_model


def test_a_model_with_other_classes_than_configured_is_refused(tmp_path: Path) -> None:
    artifact = load_artifact(save(tiny_model(), tmp_path / "tiny.onnx"))
    check_classes(artifact, ())
    check_classes(artifact, ("benign", "malignant", "normal"))
    with pytest.raises(ArtifactError, match="has the classes benign, malignant, normal, model.classes asks"):
        check_classes(artifact, ("normal", "benign", "malignant"))
