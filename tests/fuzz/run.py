"""`python -m tests.fuzz.run [TARGET]... --seconds 20`: coverage-guided fuzzing, if atheris is installed."""

import argparse
import logging
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def fuzz(name: str, seconds: int) -> None:
    """Never returns: the fuzzer ends the process, with 0 if it found nothing."""
    import atheris

    # Only our own code is watched: instrumenting all that is imported takes longer than the run.
    with atheris.instrument_imports(include=["streamer", "models"]):
        from tests.fuzz.targets import TARGETS

    logging.disable()
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(TARGETS[name].seeds):
            Path(corpus, str(number)).write_bytes(seed)
        arguments = [f"-max_total_time={seconds}", "-max_len=65536", "-timeout=10", "-rss_limit_mb=4096"]
        arguments.append(f"-artifact_prefix={tempfile.gettempdir()}/sonostream-{name}-")
        atheris.Setup([sys.argv[0], *arguments, corpus], TARGETS[name].run)
        atheris.Fuzz()


def main() -> int:
    """Fuzz each target in a process of its own; return 1 if one of them found something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help="names from targets.py; all if none is given")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1, help="so many targets at once")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        fuzz(asked.targets[0], asked.seconds)
    from tests.fuzz.targets import TARGETS

    if unknown := set(asked.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; known are {', '.join(TARGETS)}")

    def run(name: str) -> bool:
        command = [sys.executable, "-m", "tests.fuzz.run", name, "--here", f"--seconds={asked.seconds}"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
        last = done.stderr.strip().splitlines()[-60:] if done.returncode else []
        said = [line for line in done.stderr.splitlines() if line.startswith("Done ")]
        print(
            f"{name}: {'FOUND SOMETHING' if done.returncode else ''.join(said)}", *last, sep="\n", flush=True
        )
        return done.returncode != 0

    names = list(asked.targets or TARGETS)
    with ThreadPoolExecutor(asked.jobs) as pool:
        failed = [name for name, bad in zip(names, pool.map(run, names), strict=True) if bad]
    print("found something in: " + ", ".join(failed) if failed else "found nothing")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
