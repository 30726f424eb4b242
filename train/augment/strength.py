"""How far augmentation goes: the `[augment]` table of a recipe. 0 (or a share of 1) leaves a change out."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Strength(BaseModel):
    """What may happen to a picture, and how much of it; what is not named does not happen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Geometry, of picture and masks alike
    horizontal_flip: Share = 0.0
    """Share of the frames that are mirrored left to right."""
    vertical_flip: Share = 0.0
    quarter_turns: bool = False
    """Rotate by 0, 90, 180 or 270 degrees."""
    rotation_deg: Amount = 0.0
    """Largest angle to either side."""
    zoom: Amount = 0.0
    """Largest change of scale, as a logarithm."""
    closer: Amount = 0.0
    """How much closer than the picture's own scale the middle of that range lies, as a logarithm."""
    aspect: Amount = 0.0
    """Likewise of width against height."""
    shift: Amount = 0.0
    """Largest, of the side of what is seen."""
    crop: Share = 1.0
    """Smallest share of the area that a crop keeps."""
    crop_share: Share = 1.0
    """Share of the frames that are cropped, where `crop` is below 1."""
    crop_centred: bool = False
    """The crop stays in the middle instead of lying anywhere."""
    mirrored_border: Share = 0.3
    """Share of the frames whose outside is more tissue of the same kind, not black."""

    # What an instrument's knobs do
    gain: Amount = 0.0
    """Of the brightness, as a logarithm."""
    brightness: Amount = 0.0
    """Added to the picture, of its full range."""
    gamma: Amount = 0.0
    """As a logarithm."""
    depth_gain: Amount = 0.0
    """From the skin down, as a logarithm; a third of it from side to side."""
    contrast: Amount = 0.0
    """About the mean, as a logarithm."""
    tone: Amount = 0.0
    """Largest bend of the gray map, of its full range."""

    # Texture
    detail: Amount = 0.0
    """Largest gain of fine contrast over coarse, as local enhancement makes it; half of it the other way."""
    detail_share: Share = 0.4
    filter: Amount = 0.0
    """Spread of the weights of a random 5 x 5 filter that keeps the mean."""
    filter_share: Share = 0.4
    speckle: Amount = 0.0
    """Largest amplitude of multiplied grain."""
    speckle_share: Share = 0.5
    blur: Amount = 0.0
    """Largest Gaussian sigma, in pixels of the network's input."""
    blur_share: Share = 0.5
    sharpen: Share = 0.0
    """How far the blur may go the other way, as scanners' edge enhancement does."""
    median_share: Share = 0.0
    """Share of the frames that go through a 3 x 3 median."""
    coarse: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Smallest share of the resolution that is kept."""
    coarse_share: Share = 0.25
    compression: Amount = 0.0
    """Largest quantisation step of the lowest frequencies."""
    compression_share: Share = 0.25

    # What a screen adds
    marks: Share = 0.0
    """Share of frames that get calipers, dotted lines or letters: of all classes alike."""
    borders: Share = 0.0
    """Share of frames with a black border or a menu over an edge."""
    lift: Share = 0.0
    """Share of frames where the probe has left the skin on one side: that side fades to black."""
