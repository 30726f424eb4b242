"""A model's card in words: the page that lies beside the file."""

from typing import Any

from models.artifact import ModelCard

_FIGURES = {
    "dice": "Dice, lesions",
    "dice_benign": "Dice, benign",
    "dice_malignant": "Dice, malignant",
    "missed": "lesions not touched by the mask",
    "false_positives": "normals with more than 0.5 % of the area marked",
    "auc": "AUC, malignant against benign",
    "accuracy": "accuracy, three classes",
    "recall_benign": "benign recognised",
    "recall_malignant": "malignant recognised",
    "recall_normal": "normal recognised",
    "calibration_error": "expected calibration error",
}


def write_page(card: ModelCard, command: str) -> str:
    """Say in Markdown what a model is, what it was made from, how well it does and what it is not for.

    :param command: reproduces the figures.
    """
    real, phantom = card.metrics["busi_heldout"], card.metrics["phantom"]
    engine = card.metrics["engine"]
    real_table, phantom_table = (part["confusion_true_by_predicted"] for part in (real, phantom))
    size, order = card.input, ", ".join(card.classes)
    classes = f"{', '.join(card.classes[:-1])} or {card.classes[-1]}"
    count = card.training_data[0].note.partition(" ")[0]
    data = "\n".join(f"- **{one.name}**, {one.licence}: {one.note}." for one in card.training_data)
    rows = "\n".join(
        f"| {words} | {_figure(real[name])} | {_figure(phantom[name])} |" for name, words in _FIGURES.items()
    )
    return f"""# {card.name}.onnx, version {card.version}

**{card.intended_use}**

Says for every frame where a lesion is and whether the picture looks {classes}. Network:
`{card.network}` ({card.parameters:,} parameters, {card.gmacs:.2f} GMACs for one frame of
{size.height} x {size.width} x {size.channels}); {card.notes}. Class probabilities are calibrated by
a temperature of {card.temperature:g}, fitted on images that were not trained on. Made on
{card.date}.

## What it was made from
{data}

BUSI must be cited in any use: W. Al-Dhabyani, M. Gomaa, H. Khaled, A. Fahmy. "Dataset of breast
ultrasound images." Data in Brief 28 (2020) 104863, doi:10.1016/j.dib.2019.104863. It was published
with an open-access article whose journal uses CC BY 4.0; the archive itself holds no licence file.

BUSI names no patients. Its near-duplicates (the same picture cropped again or annotated,
neighbouring frames of one lesion) are grouped, and no group is in two parts. Groups that hold the
same lesion under two classes (19 images) are left out everywhere. Less similar views of one patient
cannot be told apart, so some patients may be on both sides.

## How well it does
Mean, 95 % interval in brackets, number of images. Measured on the file itself, in {engine["name"]}
{engine["version"]} ({engine["precision"]}).

| | real images | phantom |
|---|---|---|
{rows}

Real images: {real["protocol"]}

Phantom: {phantom["protocol"]}

Rows true, columns predicted, in the order {order}: real {real_table}, phantom {phantom_table}.

Reproduced by `{command}`.

## What it is not
- Not a medical device, and not evidence about any patient. The phantom's figures show that the
  software works, nothing about people.
- One hospital, one maker's scanners, still images chosen by people: on other scanners, on video and
  on views without a clear lesion it will do worse than the table says.
- About a third of BUSI's images carry calipers or text, nearly all of them images with a lesion,
  and calipers sit on lesions. Training draws such marks on images of every class to weaken that
  clue; it is not gone.
- Trained on {count} real images and no others. The intervals above are wide for that reason.
"""


def _figure(value: dict[str, Any]) -> str:
    low, high = value["interval_95"]
    return f"{value['value']:.3f} [{low:.3f}, {high:.3f}], {value['images']}"
