"""What a model says of a set of images, asked through any engine, kept in a file."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.networks.base import Network
from models.runtimes import Session
from train.data import DataError, Images, Pixels

_KEPT = ("groups", "pixels", "masks", "labels", "masked", "boxed", "spacing_mm")


class Answers(NamedTuple):
    """What a model says of a set of images."""

    lesion: Pixels
    """M x H x W: probability x 255."""
    classes: NDArray[np.float64]
    """M x K: probabilities; K is 0 for a model that does not classify."""
    temperature: float = 1.0
    """What the class logits were divided by to calibrate the probabilities; 1: they are not."""
    segments: bool = True
    """False: the model has no masks, and `lesion` holds zeros."""

    def uncalibrated(self) -> NDArray[np.float64]:
        """The probabilities before the temperature was applied, M x K."""
        powers = np.maximum(self.classes, 1e-12) ** self.temperature
        before: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return before

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Answers":
        """Keep the chosen rows, by index or by mask."""
        return self._replace(lesion=self.lesion[rows], classes=self.classes[rows])


def ask(session: Session, images: Images) -> Answers:
    """Run a model over images of its own size."""
    lesion = np.empty_like(images.masks)
    classes = np.empty((len(images), len(session.card.classes)))
    step, channels = session.max_batch, session.card.input.channels
    for start in range(0, len(images), step):
        frames = images.pixels[start : start + step, :, :, None]
        answer = session.predict(np.repeat(frames, channels, axis=3))
        lesion[start : start + step] = answer.lesion
        classes[start : start + step] = answer.classes
    return Answers(lesion, classes, session.card.temperature)


def ask_network(network: Network, images: Images, *, temperature: float = 1.0, batch: int = 16) -> Answers:
    """Run a network over images of its own size, in fp32.

    :param temperature: what the class logits are divided by.
    """
    lesion = np.zeros_like(images.masks)
    classes = np.empty((len(images), len(network.classes)))
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            rows = slice(start, start + batch)
            frames = torch.from_numpy(np.ascontiguousarray(images.pixels[rows]))[:, None].to(device)
            output = network(frames.float() / 255)
            if output.lesion is not None:
                lesion[rows] = (output.lesion * 255).round().byte().cpu().numpy()
            if output.class_logits is not None:
                classes[rows] = (output.class_logits.double() / temperature).softmax(dim=1).cpu().numpy()
    network.train(training)
    return Answers(lesion, classes, temperature, bool(network.regions))


def save_answers(path: Path, answers: Answers, images: Images) -> None:
    """Keep answers with the images they are about; at every instant `path` is whole or absent.

    :raises DataError: if the file cannot be written.
    """
    partial = path.with_suffix(".partial.npz")
    kept = {name: getattr(images, name) for name in _KEPT}
    try:
        np.savez_compressed(
            partial,
            names=np.array(images.names),
            sources=np.array(images.sources),
            lesion=answers.lesion,
            classes=answers.classes,
            temperature=np.array(answers.temperature),
            segments=np.array(answers.segments),
            **kept,
        )
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {error.strerror or error}") from None


def load_answers(path: Path) -> tuple[Answers, Images]:
    """Read what `save_answers` wrote.

    :raises DataError: if the file is missing or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file) as kept:
            images = Images(
                tuple(kept["names"].tolist()),
                sources=tuple(kept["sources"].tolist()),
                **{name: kept[name] for name in _KEPT},
            )
            answers = Answers(
                kept["lesion"], kept["classes"], float(kept["temperature"]), bool(kept["segments"])
            )
            return answers, images
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; the run has not tested that fold yet") from None
    except Exception as error:  # numpy raises many kinds for a damaged file
        kind = type(error).__name__
        raise DataError(f"{path} holds no answers that can be read ({kind}); run that fold again") from None
