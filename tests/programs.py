"""System programs that tests start, and what to do where one is missing."""

import os
import shutil

import pytest

REQUIRE = "SONOSTREAM_REQUIRE_PROGRAMS"


def require_program(name: str, *, package: str) -> str:
    """Find a program; skip the test, or fail it where SONOSTREAM_REQUIRE_PROGRAMS=1 is set.

    :param package: the Debian package that has it.
    :return: its path.
    """
    path = shutil.which(name)
    if path is not None:
        return path
    reason = f"needs the program {name}: apt install {package}"
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{reason} ({REQUIRE}=1)")
    pytest.skip(reason)
