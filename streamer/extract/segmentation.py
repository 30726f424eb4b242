"""Lesions as a DICOM Segmentation, frame for frame over an ultrasound clip.

The clip is the one that was analysed, where its file is given; else the recorded regions are written as a new
multi-frame ultrasound image and that is segmented. A video has no place in the room, which is why the
Segmentation has no Frame of Reference: each frame points at the frame of the clip that it lies on.
"""

import copy
import warnings
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.analysis import Analysis, Model
from streamer.extract.clip import ClipWriter
from streamer.extract.frames import USE, ExtractError, Shown
from streamer.frame import Pixels
from streamer.sources.base import SourceUnavailable

_SUBPIXEL = 4
_FINER = 8
_OUR_CLIP, _OUR_SEGMENTATION = "clip.dcm", "segmentation.dcm"
_TEMPORAL_POSITION, _FRAME_CONTENT = 0x00209128, 0x00209111
_NEAR_S = 2e-3
"""A frame of a clip and its time in the recording agree within this."""


class DicomFolder:
    """Writes `segmentation.dcm`, and `clip.dcm` where the clip is not given, to a new folder."""

    def __init__(self, folder: Path, *, of: Path | None = None) -> None:
        """Begin.

        :param of: the DICOM file that was analysed.
        :raises ExtractError: if highdicom is missing, the folder exists, or the file is no ultrasound clip.
        """
        try:
            self._highdicom: Any = import_module("highdicom")
        except ImportError:
            raise ExtractError("DICOM Segmentation needs highdicom: pip install highdicom") from None
        self._original = None if of is None else _Original(of)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            raise ExtractError(
                f"{folder} exists already: extracts are never overwritten, choose another name"
            ) from None
        except OSError as error:
            raise ExtractError(f"cannot make the folder {folder}: {error.strerror}") from None
        self._folder = folder
        self._clip: ClipWriter | None = None
        self._packed: list[bytes] = []
        self._waiting: list[Pixels] = []
        self._source_frames: list[int] = []
        self._model: Model | None = None

    def add(self, shown: Shown) -> None:
        """Take the next frame.

        :raises ExtractError: if it does not belong to the clip, or the picture's size has changed.
        """
        analysis = shown.analysis
        self._model = self._model or analysis.model
        if self._original is not None:
            mask = fill(analysis, self._original.size, whole_frame=True)
            self._source_frames.append(self._original.frame_of(shown))
        else:
            self._clip = self._clip or ClipWriter(shown)
            self._clip.add(shown)
            mask = fill(analysis, self._clip.size, whole_frame=False)
            self._source_frames.append(len(self._source_frames) + 1)
        self._waiting.append(mask)
        # Bits are packed across frames: eight of them always end on a whole byte.
        if len(self._waiting) == 8:
            self._pack()

    def close(self) -> None:
        """Write the files.

        :raises ExtractError: if there is no frame.
        """
        if self._model is None:
            raise ExtractError("there is no frame to segment in this part of the recording")
        self._pack()
        clip = self._original.header if self._original is not None else self._write_clip()
        # The libraries' warnings quote what they dislike, such as a patient's name.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seg = self._segmentation(clip, self._model)
        seg.save_as(self._folder / _OUR_SEGMENTATION)

    def _pack(self) -> None:
        if self._waiting:
            bits = np.packbits(np.stack(self._waiting).ravel(), bitorder="little")
            self._packed.append(bits.tobytes())
            self._waiting.clear()

    def _write_clip(self) -> Any:
        assert self._clip is not None
        clip = self._clip.finish()
        clip.save_as(self._folder / _OUR_CLIP, enforce_file_format=True)
        return clip

    def _segmentation(self, clip: Any, model: Model) -> Any:
        """Let highdicom write one frame with all its modules, then put the others beside it."""
        seg = _first_frame(self._highdicom, clip, model)
        seg.file_meta.MediaStorageSOPInstanceUID = seg.SOPInstanceUID
        for reference in (
            seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0],
            seg.SourceImageSequence[0],
        ):
            reference.ReferencedSOPClassUID = clip.SOPClassUID
        self._add_time_dimension(seg)
        template = seg.PerFrameFunctionalGroupsSequence[0]
        seg.PerFrameFunctionalGroupsSequence = [
            self._per_frame(template, clip, position, source)
            for position, source in enumerate(self._source_frames, 1)
        ]
        seg.NumberOfFrames = len(self._source_frames)
        data = b"".join(self._packed)
        seg.PixelData = data + b"\0" * (len(data) % 2)
        seg["PixelData"].VR = "OB"
        return seg

    def _per_frame(self, template: Any, clip: Any, position: int, source_frame: int) -> Any:
        item = copy.deepcopy(template)
        source = item.DerivationImageSequence[0].SourceImageSequence[0]
        source.ReferencedSOPClassUID = clip.SOPClassUID
        source.ReferencedFrameNumber = source_frame
        content = item.FrameContentSequence[0]
        content.TemporalPositionIndex = position
        content.DimensionIndexValues = [1, position]
        return item

    def _add_time_dimension(self, seg: Any) -> None:
        dimension = copy.deepcopy(seg.DimensionIndexSequence[0])
        dimension.DimensionIndexPointer = _TEMPORAL_POSITION
        dimension.FunctionalGroupPointer = _FRAME_CONTENT
        dimension.DimensionDescriptionLabel = "Temporal Position Index"
        seg.DimensionIndexSequence.append(dimension)


def fill(analysis: Analysis, size: tuple[int, int], *, whole_frame: bool) -> Pixels:
    """Fill the published contours.

    :param size: (width, height) of the picture.
    :param whole_frame: the picture is the source's whole frame, not its region, which may be scaled.
    :return: H x W, 0 or 1.
    """
    width, height = size
    mask: Pixels = np.zeros((height, width), np.uint8)
    region = analysis.region
    origin = (0, 0) if whole_frame else (region.x, region.y)
    covers = (analysis.frame.width, analysis.frame.height) if whole_frame else (region.width, region.height)
    scale = np.array([width / covers[0], height / covers[1]])
    for lesion in analysis.lesions:
        _fill_one(mask, (np.asarray(lesion.contour) - origin) * scale)
    return mask


def _fill_one(mask: Pixels, points: NDArray[np.float64]) -> None:
    """Set the pixels that lie inside a polygon by half or more; OpenCV's own filling sets all it touches."""
    height, width = mask.shape
    low = np.clip(np.floor(points.min(axis=0)), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)), 0, (width, height)).astype(int)
    columns, rows = high - low
    if columns <= 0 or rows <= 0:
        return
    fine: Pixels = np.zeros((rows * _FINER, columns * _FINER), np.uint8)
    # The wire's points start at the corner of the first pixel, OpenCV's at its centre.
    fixed = ((points - low) * _FINER - 0.5) * (1 << _SUBPIXEL)
    cv2.fillPoly(fine, [np.round(fixed).astype(np.int32)], 255, shift=_SUBPIXEL)
    inside = cv2.resize(fine, (columns, rows), interpolation=cv2.INTER_AREA) >= 128
    mask[low[1] : high[1], low[0] : high[0]] |= inside.astype(np.uint8)


class _Original:
    """The DICOM clip that was analysed."""

    def __init__(self, path: Path) -> None:
        try:
            import pydicom

            from streamer.sources.dicom import frame_times

            self.header: Any = pydicom.dcmread(path, stop_before_pixels=True)
            self.size = int(self.header.Columns), int(self.header.Rows)
            count = int(self.header.get("NumberOfFrames", 1))
            self._times = np.asarray(frame_times(self.header, count))
        except SourceUnavailable as error:
            raise ExtractError(str(error)) from None
        except OSError as error:
            raise ExtractError(f"cannot read {path}: {error.strerror}") from None
        except Exception as error:  # its text may quote elements of a patient
            raise ExtractError(f"{path} is not a DICOM picture ({type(error).__name__})") from None
        self._path = path

    def frame_of(self, shown: Shown) -> int:
        """Return the number, from 1, of the clip's frame that a recorded frame shows.

        :raises ExtractError: if it shows none.
        """
        analysis = shown.analysis
        other = ExtractError(
            f"frame {shown.number} is not one of {self._path}: is that the clip that was analysed?"
        )
        if (analysis.frame.width, analysis.frame.height) != self.size or analysis.media_time is None:
            raise other
        lap_s = float(self._times[-1])
        in_lap = analysis.media_time % lap_s if lap_s else 0.0
        nearest = int(np.argmin(np.abs(self._times - in_lap)))
        if abs(self._times[nearest] - in_lap) > _NEAR_S:
            raise other
        return nearest % (len(self._times) - 1) + 1


def _first_frame(highdicom: Any, clip: Any, model: Model) -> Any:
    from pydicom.sr.codedict import codes
    from pydicom.uid import UltrasoundImageStorage, generate_uid

    # For pictures without a place in the room highdicom knows single frames only.
    single = copy.deepcopy(clip)
    for name in ("NumberOfFrames", "PixelData", "FrameTime", "FrameTimeVector", "FrameIncrementPointer"):
        if name in single:
            delattr(single, name)
    single.SOPClassUID = UltrasoundImageStorage
    for name, empty in (
        ("PatientID", ""), ("PatientName", ""), ("PatientBirthDate", ""), ("PatientSex", ""),
        ("StudyID", ""), ("StudyDate", ""), ("StudyTime", ""), ("AccessionNumber", ""),
        ("ReferringPhysicianName", ""), ("StudyInstanceUID", generate_uid()),
        ("SeriesInstanceUID", generate_uid()),
    ):  # fmt: skip
        if name not in single:
            setattr(single, name, empty)
    identification = highdicom.AlgorithmIdentificationSequence(
        name=f"sonostream {model.name}"[:64],
        version=model.version or "unknown",
        family=codes.DCM.ArtificialIntelligence,
    )
    description = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="Lesion (research use only)",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=identification,
    )
    return highdicom.seg.Segmentation(
        source_images=[single],
        pixel_array=np.zeros((1, int(clip.Rows), int(clip.Columns)), np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[description],
        series_instance_uid=generate_uid(),
        series_number=int(clip.get("SeriesNumber") or 0) + 1000,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="sonostream",
        manufacturer_model_name=f"{model.name} {model.version}"[:64],
        software_versions=version("sonostream"),
        device_serial_number=model.sha256[:64],
        content_description=USE,
        series_description=USE,
        omit_empty_frames=False,
    )
