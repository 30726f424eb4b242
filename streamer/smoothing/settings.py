"""What can be set about steadying answers; every time is in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SmoothingSettings:
    """How much is smoothed, and what counts as another view."""

    enabled: bool = True
    mask_time_s: float = 0.12
    """Time constant of news in the mask: a lesion that appears or leaves crosses the threshold after 0.7 of
    it, and one missed frame at 15 frames a second does not blink."""
    outline_time_s: float = 0.4
    """Time constant of small changes along the outline, which are mostly the network's."""
    class_time_s: float = 0.15
    """Time constant with which class evidence is forgotten."""
    gap_s: float = 0.5
    """A longer pause between two frames starts a new view."""
    cut_below: float = 0.8
    """Correlation of two successive pictures' structure under which they show different places."""
    zoom_above: float = 0.75
    """Correlation after scaling from which a picture is the one before at another depth or zoom."""
    gain_jump: float = 12.0
    """Change of the mean gray level from one frame to the next that a hand makes at the console."""
    contact_below: float = 0.3
    """Part of the picture's width in contact under which the probe is lifted."""
    label_margin: float = 0.3
    """The shown label changes only to a class more probable by this much."""
    uncertain_below: float = 0.15
    """The evidence conflicts where the shown class leads the next one by less than this..."""
    certain_above: float = 0.25
    """...until it leads by this much again."""
    stable_after_s: float = 0.5
    """How long the label must have held to be stable..."""
    stable_above: float = 0.6
    """...with at least this smoothed probability."""
    track_memory_s: float = 2.0
    """A lesion not seen for so long loses its identity."""
    spread_s: float = 1.0
    """Measures are given as mean and spread over this long."""
