"""The recorded regions as a DICOM multi-frame ultrasound image, without anything about a person."""

import math
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import JPEGLSLossless, UltrasoundMultiFrameImageStorage, generate_uid

from streamer.extract.frames import USE, ExtractError, Shown
from streamer.frame import Pixels

_FRAME_TIME_VECTOR = 0x00181065
_LOSSY = {"jpeg": "ISO_10918_1", "h264": "ISO_14496_10"}
"""Coding of a recording that is not exact -> DICOM's name for it."""
_CENTIMETRES, _TWO_DIMENSIONAL, _TISSUE = 3, 1, 1


class ClipWriter:
    """Gathers coded frames of one size; each recorded frame is one of the clip's, a missing one black."""

    def __init__(self, first: Shown) -> None:
        """Take size and colour from a frame; `add` takes its pixels.

        :raises ExtractError: if it has no picture.
        """
        if first.pixels is None:
            raise ExtractError("the recording begins without a picture: DICOM needs pictures, use --start")
        self._shape = first.pixels.shape
        self.size = self._shape[1], self._shape[0]
        self._first = first
        self._frames: list[bytes] = []
        self._times_ms: list[float] = []
        self._coded_bytes = 0
        self._encoder = get_encoder(JPEGLSLossless)

    def add(self, shown: Shown) -> None:
        """Take the next frame.

        :raises ExtractError: if its size or colour is another than the first one's.
        """
        pixels: Pixels = np.zeros(self._shape, np.uint8) if shown.pixels is None else shown.pixels
        if pixels.shape != self._shape:
            raise ExtractError(
                f"the picture changes its size or colour at {shown.time_s:.2f} s: a DICOM clip has one size, "
                "take a part with --start and --end"
            )
        self._frames.append(self._encode(np.ascontiguousarray(pixels)))
        self._times_ms.append(shown.time_s * 1e3)
        self._coded_bytes += 0 if shown.coded is None else len(shown.coded.data)

    def _encode(self, pixels: Pixels) -> bytes:
        gray = pixels.ndim == 2
        coded: bytes = self._encoder.encode(
            pixels,
            rows=pixels.shape[0],
            columns=pixels.shape[1],
            samples_per_pixel=1 if gray else 3,
            number_of_frames=1,
            photometric_interpretation="MONOCHROME2" if gray else "RGB",
            bits_allocated=8,
            bits_stored=8,
            pixel_representation=0,
            planar_configuration=0,
        )
        return coded

    def finish(self) -> Any:
        """Return the data set."""
        made = Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = JPEGLSLossless
        made.preamble = b"\0" * 128
        self._identify(made)
        gray = len(self._shape) == 2
        made.SamplesPerPixel = 1 if gray else 3
        made.PhotometricInterpretation = "MONOCHROME2" if gray else "RGB"
        if not gray:
            made.PlanarConfiguration = 0
        made.Rows, made.Columns = self._shape[:2]
        made.NumberOfFrames = len(self._frames)
        made.BitsAllocated = made.BitsStored = 8
        made.HighBit, made.PixelRepresentation = 7, 0
        self._say_what_was_lost(made)
        steps = np.diff(self._times_ms, prepend=self._times_ms[0])
        made.FrameIncrementPointer = _FRAME_TIME_VECTOR
        made.FrameTimeVector = [f"{step:.3f}" for step in steps]
        if (spacing := self._first.analysis.pixel_spacing_mm) is not None:
            made.SequenceOfUltrasoundRegions = [self._region(spacing)]
        made.PixelData = encapsulate(self._frames)
        made["PixelData"].VR = "OB"
        return made

    def _say_what_was_lost(self, made: Any) -> None:
        """Tell of a coding on the way that was not exact; ours is."""
        coded = self._first.coded
        lossy = coded is not None and coded.format in _LOSSY
        made.LossyImageCompression = "01" if lossy else "00"
        if coded is not None and lossy:
            made.LossyImageCompressionMethod = _LOSSY[coded.format]
            ratio = math.prod(self._shape) * len(self._times_ms) / max(1, self._coded_bytes)
            made.LossyImageCompressionRatio = f"{ratio:.1f}"

    def _identify(self, made: Any) -> None:
        made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        made.StudyInstanceUID, made.SeriesInstanceUID = generate_uid(), generate_uid()
        for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber",
                     "ReferringPhysicianName", "StudyID"):  # fmt: skip
            setattr(made, name, "")
        when = datetime.fromtimestamp(self._first.analysis.captured_at * 1e-9, UTC)
        made.StudyDate = made.SeriesDate = made.ContentDate = when.strftime("%Y%m%d")
        made.StudyTime = made.SeriesTime = made.ContentTime = when.strftime("%H%M%S.%f")
        made.TimezoneOffsetFromUTC = "+0000"
        made.Modality = "US"
        made.SeriesNumber = made.InstanceNumber = 1
        made.ImageType = ["DERIVED", "SECONDARY"]
        made.Manufacturer = "sonostream"
        made.SoftwareVersions = version("sonostream")
        made.StudyDescription = made.SeriesDescription = USE

    def _region(self, spacing: tuple[float, float]) -> Any:
        """Describe the calibration; a picture that was scaled has larger pixels than the source's."""
        height, width = self._shape[:2]
        region = self._first.analysis.region
        item = Dataset()
        item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = _TWO_DIMENSIONAL, _TISSUE, 0
        item.RegionLocationMinX0 = item.RegionLocationMinY0 = 0
        item.RegionLocationMaxX1, item.RegionLocationMaxY1 = width - 1, height - 1
        item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = _CENTIMETRES
        item.PhysicalDeltaX = spacing[1] * region.width / width / 10
        item.PhysicalDeltaY = spacing[0] * region.height / height / 10
        return item
