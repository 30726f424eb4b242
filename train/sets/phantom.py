"""Lists synthetic images, `phantom:N`, rendering those that are not in the cache yet."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import cv2

from streamer.sources.phantom import PhantomFrame
from train.data import DataError, Study
from train.phantoms import FIRST_SEED, still, version
from train.sets.listing import Listing

MAX_IMAGES = 100_000
_NAME = re.compile(r"phantom:(?P<count>\d+)(:(?P<part>[a-z]+))?")


def list_phantom(path: str, cache: Path, *, on_image: Callable[[int, int], None] | None = None) -> Listing:
    """List synthetic stills, a third of each class, every one with its lesion, its gland and its pixel size.

    The same numbers are the same pictures, for one version of the phantom.

    :param path: `phantom:N`, or `phantom:N:validation` or `phantom:N:test` for pictures with other seeds.
    :param cache: their folder; pictures of other versions of the phantom lie apart.
    :param on_image: called with the number of images that are ready and of all.
    :raises DataError: if the path is no such name, or the cache cannot be written.
    """
    match = _NAME.fullmatch(path)
    part = (match and match["part"]) or "train"
    if match is None or part not in FIRST_SEED or not 0 < int(match["count"]) <= MAX_IMAGES:
        raise DataError(
            f"{path!r} is no set of synthetic images; write phantom:N with N from 1 to {MAX_IMAGES}, or "
            f"phantom:N:{', phantom:N:'.join(FIRST_SEED)}"
        )
    folder = cache / f"phantom-{version()}"
    count = int(match["count"])
    studies = []
    for number in range(count):
        studies.append(_study(folder, part, number))
        if on_image is not None:
            on_image(number + 1, count)
    name = "phantom" if part == "train" else f"phantom-{part}"
    return Listing(layout="phantom (synthetic)", name=name, path=path, studies=studies, compare=False)


def _study(folder: Path, part: str, number: int) -> Study:
    seed = FIRST_SEED[part] + number
    sidecar = folder / f"{seed}.json"
    if not sidecar.is_file():
        _render(folder, seed, still(part, number), sidecar)
    facts = json.loads(sidecar.read_text())
    return Study(
        facts["name"],
        facts["label"],
        0,
        folder / f"{seed}.png",
        (folder / f"{seed}_mask.png",) if facts["label"] != "normal" else (),
        gland=folder / f"{seed}_gland.png",
        spacing_mm=(facts["spacing_mm"][0], facts["spacing_mm"][1]),
    )


def _render(folder: Path, seed: int, rendered: tuple[str, PhantomFrame], sidecar: Path) -> None:
    name, frame = rendered
    label = frame.label if frame.lesion_mask.any() else "normal"
    facts = {"name": name, "label": label, "spacing_mm": [frame.spacing_mm[1], frame.spacing_mm[0]]}
    contents = {
        folder / f"{seed}.png": _png(frame.pixels),
        folder / f"{seed}_mask.png": _png(frame.lesion_mask),
        folder / f"{seed}_gland.png": _png(frame.gland_mask),
        sidecar: json.dumps(facts).encode(),  # last: where it is, the pictures are
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
            partial.write_bytes(content)
            partial.replace(path)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error.strerror}); free some room, or name another cache"
        ) from None


def _png(picture: cv2.typing.MatLike) -> bytes:
    return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
