"""Figures in words, in the order in which a report shows them."""

from typing import NamedTuple


class Words(NamedTuple):
    """How a figure is shown."""

    says: str
    better: str = "higher"
    """`higher` or `lower`."""
    percent: bool = True
    """Papers print it in per cent."""


MASKS = {
    "dice": Words("Dice"),
    "dice_benign": Words("Dice, benign lesions"),
    "dice_malignant": Words("Dice, malignant lesions"),
    "jaccard": Words("Jaccard (IoU)"),
    "tpr": Words("lesion pixels found (TPR)"),
    "tfpr": Words("false pixels / lesion pixels (tFPR)", "lower"),
    "fpr": Words("false pixels / union (FPR)", "lower"),
    "pixel_specificity": Words("pixel specificity"),
    "pixel_accuracy": Words("pixel accuracy"),
    "hd95_px": Words("95 % Hausdorff distance, pixels of a 256 grid", "lower", percent=False),
    "asd_px": Words("mean distance, predicted to true outline, pixels", "lower", percent=False),
    "assd_px": Words("mean distance, both ways, pixels", "lower", percent=False),
    "hd95_mm": Words("95 % Hausdorff distance, mm", "lower", percent=False),
    "asd_mm": Words("mean distance, predicted to true outline, mm", "lower", percent=False),
    "assd_mm": Words("mean distance, both ways, mm", "lower", percent=False),
    "missed": Words("lesions not touched by the mask", "lower"),
    "false_positives": Words("images without a lesion with more than 0.5 % marked", "lower"),
}
LESION_CLASSES = {
    "auc": Words("AUC, {positive} against {other}"),
    "sensitivity": Words("sensitivity, {positive}"),
    "specificity": Words("specificity, {positive}"),
    "precision": Words("precision, {positive}"),
    "f1": Words("F1, {positive}"),
    "accuracy_lesions": Words("accuracy, lesions only"),
}
ALL_CLASSES = {
    "accuracy": Words("accuracy, all images"),
    "balanced_accuracy": Words("balanced accuracy"),
    "auc_macro": Words("AUC, one class against the rest, mean"),
    "sensitivity_macro": Words("sensitivity, mean of classes"),
    "specificity_macro": Words("specificity, mean of classes"),
    "precision_macro": Words("precision, mean of classes"),
    "f1_macro": Words("F1, mean of classes"),
    "sensitivity_weighted": Words("sensitivity, weighted by class size"),
    "specificity_weighted": Words("specificity, weighted by class size"),
    "precision_weighted": Words("precision, weighted by class size"),
    "f1_weighted": Words("F1, weighted by class size"),
    "calibration_error": Words("expected calibration error", "lower", percent=False),
    "brier": Words("Brier score", "lower", percent=False),
}
MAIN = ("dice", "hd95_px", "missed", "false_positives", "auc", "sensitivity", "specificity", "accuracy")
"""What the first table shows."""
EVERY_CLASS = {
    "recall": Words("sensitivity (recall)"),
    "specificity": Words("specificity"),
    "precision": Words("precision"),
    "f1": Words("F1"),
    "auc": Words("AUC"),
}
"""Of each class against the rest; the figure's name is this, `_` and the class."""

FIGURES = {**MASKS, **LESION_CLASSES, **ALL_CLASSES}


def words(name: str, positive: str = "malignant") -> Words:
    """Say what a figure is, also one of a single class."""
    if name in FIGURES:
        found = FIGURES[name]
        other = "benign" if positive == "malignant" else "malignant"
        return found._replace(says=found.says.format(positive=positive, other=other))
    kind, _, of = name.rpartition("_")
    return EVERY_CLASS[kind]._replace(says=f"{EVERY_CLASS[kind].says}, {of}")
