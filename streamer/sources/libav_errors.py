"""Words for what FFmpeg reports, and URLs that are safe to print."""

import errno
from urllib.parse import urlsplit

import av.error


def shown_url(url: str) -> str:
    """Strip what may be secret from a URL: user, password and query (tokens, passphrases)."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition(":")[0] + "://..."
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def reason(error: Exception) -> str:
    """Give FFmpeg's own word for an error, without the file name or URL it carries."""
    if isinstance(error, av.error.ExitError):
        return "nothing came in time"
    word = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
    return word[0].lower() + word[1:]


def advice(error: Exception, scheme: str) -> str:
    """Say what to do about a device or stream that does not open."""
    number = getattr(error, "errno", None)
    device = _DEVICE_ADVICE.get((scheme, number or 0))
    if device:
        return device
    for kind, words in _STREAM_ADVICE:
        if isinstance(error, kind):
            return words
    return "check the address and that the sender is running"


_DEVICE_ADVICE = {
    ("v4l2", errno.ENOENT): "`sonostream doctor` lists capture devices",
    ("v4l2", errno.EACCES): "join the group that owns it: `sudo usermod -aG video $USER`, then log in again",
    ("v4l2", errno.EBUSY): "another program has it open: close that program",
    ("v4l2", errno.ENOTTY): "this is not a capture device: `sonostream doctor` lists them",
    ("v4l2", errno.ENODEV): "it was unplugged, or is not a capture device",
    ("v4l2", errno.EINVAL): "it does not offer that size or rate: `v4l2-ctl --list-formats-ext` lists them",
    ("x11grab", errno.EIO): "no such display, or it does not let us in: check its number and XAUTHORITY",
    ("x11grab", errno.EINVAL): "check that the size asked for fits the display",
    ("lavfi", errno.EINVAL): "check the filter graph with `ffplay -f lavfi`",
}

_STREAM_ADVICE: tuple[tuple[type[Exception], str], ...] = (
    (av.error.ConnectionRefusedError, "nobody listens there: start the sender, or check host and port"),
    (av.error.ExitError, "check that the sender is running and the address, or raise timeout_s"),
    (av.error.TimeoutError, "check that the sender is running and the address, or raise timeout_s"),
    (av.error.HTTPUnauthorizedError, "check user and password"),
    (av.error.HTTPForbiddenError, "check user and password"),
    (av.error.HTTPNotFoundError, "check the path of the stream"),
    (av.error.InvalidDataError, "what arrives is not video that FFmpeg reads"),
    (av.error.PermissionError, "the address may not be used by this user: check its permissions"),
    (av.error.ProtocolNotFoundError, "the installed PyAV was built without this protocol"),
    (av.error.ArgumentError, "check the address and its options"),
)
