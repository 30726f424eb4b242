"""The capture devices of a Linux machine, as the kernel lists them."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

# videodev2.h: VIDIOC_QUERYCAP fills `struct v4l2_capability`; its `device_caps` say what the node can do.
_QUERYCAP = 0x80685600
_CAPABILITY = struct.Struct("16s32s32sIII12x")
_CAN_CAPTURE = 0x00000001 | 0x00001000  # V4L2_CAP_VIDEO_CAPTURE, V4L2_CAP_VIDEO_CAPTURE_MPLANE


@dataclass(frozen=True, slots=True)
class CaptureDevice:
    """A video device node."""

    path: str
    name: str
    """As its driver calls it."""
    usable: bool
    problem: str
    """Why it cannot be opened as a source, and what to do; empty if it can."""


def capture_devices(
    devices: Path = Path("/dev"), classes: Path = Path("/sys/class/video4linux")
) -> list[CaptureDevice]:
    """List the video devices, in the order of their numbers.

    :param devices: the folder of device nodes.
    :param classes: the folder where the kernel describes them.
    """
    nodes = sorted(devices.glob("video[0-9]*"), key=lambda node: (len(node.name), node.name))
    found = []
    for node in nodes:
        try:
            name = (classes / node.name / "name").read_text(errors="replace").strip()
        except OSError:
            name = "unknown"
        problem = _problem(node)
        found.append(CaptureDevice(str(node), name, not problem, problem))
    return found


def _problem(node: Path) -> str:
    try:
        descriptor = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    except PermissionError:
        return "permission denied: `sudo usermod -aG video $USER`, then log in again"
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    try:
        from fcntl import ioctl  # absent on Windows, where there are no such nodes either

        answer = ioctl(descriptor, _QUERYCAP, bytes(_CAPABILITY.size))
    except OSError:
        return "not a video device"
    finally:
        os.close(descriptor)
    *_, device_caps = _CAPABILITY.unpack(answer)
    return "" if device_caps & _CAN_CAPTURE else "carries no pictures (metadata or output only)"
