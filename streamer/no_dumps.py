"""A crash leaves no picture behind: no dump of this process's memory is written."""

import ctypes
import sys

_PR_SET_DUMPABLE = 4  # of <linux/prctl.h>


def forbid_dumps() -> None:
    """Keep this process's memory out of core files and crash reporters; for commands that hold pictures."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # Where the kernel hands dumps to a program (systemd-coredump), this counts and not the limit.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)
