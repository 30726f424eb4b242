"""The page beside a model says what its card says."""

from models.artifact import InputSize, ModelCard, TrainingData
from train.evaluation.evaluate import Answers, as_card, score
from train.page import write_page
from train.phantoms import Mixture, render


def test_the_page_holds_every_figure_with_its_interval_and_the_warning() -> None:
    images = render("test", Mixture(stills=9, sweeps=0, frames=0), 32)
    perfect = Answers(images.masks, (images.labels[:, None] == [0, 1, 2]).astype(float))
    part = as_card(score(perfect, images), "how it was measured.")
    card = ModelCard(
        name="small",
        version="7",
        network="mtl_oca",
        classes=("benign", "malignant", "normal"),
        input=InputSize(height=32, width=32, channels=1),
        training_data=(TrainingData(name="Some set", licence="CC BY 4.0", note="12 images"),),
        date="2026-01-01",
        metrics={
            "busi_heldout": part,
            "phantom": part,
            "engine": {"name": "openvino", "version": "1", "precision": "bf16"},
        },
        temperature=1.25,
        precision="fp32",
        intended_use="Research only.",
        parameters=1000,
        gmacs=0.5,
    )

    page = write_page(card, "the command")

    assert "**Research only.**" in page
    assert "| Dice, lesions | 1.000 [1.000, 1.000], 6 | 1.000 [1.000, 1.000], 6 |" in page
    assert "normals with more than 0.5 % of the area marked | 0.000 [0.000, 0.000], 3" in page
    assert "[[3, 0, 0], [0, 3, 0], [0, 0, 3]]" in page
    assert "how it was measured." in page
    assert "**Some set**, CC BY 4.0: 12 images." in page
    assert "`the command`" in page
    assert "nothing about people" in page
