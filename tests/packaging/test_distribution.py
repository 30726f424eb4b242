"""Wheel and sdist: what is in them, and that they run where nothing of the checkout is."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

setuptools = pytest.importorskip("setuptools", "77", reason="needs pip install 'setuptools>=77'")

ROOT = Path(__file__).parents[2]
PACKAGES = ("streamer", "models", "train", "benchmarks")
BESIDE = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CHANGELOG.md", "constraints.txt",
          "sonostream.toml", "docs", "examples", "packaging")  # fmt: skip
# Figures of one machine, which nobody installs.
NOT_SHIPPED = re.compile(r"benchmarks/results/|__pycache__|\.py[cod]$")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def build(kind: str, source: Path, into: Path) -> Path:
    """Let the build backend do what pip and build do."""
    code = f"from setuptools import build_meta as b; print('made', b.build_{kind}({str(into)!r}))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=source, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return into / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, so that nothing is written into the checkout."""
    folder = tmp_path_factory.mktemp("sources")
    leave = shutil.ignore_patterns("__pycache__", "*.pyc", "node_modules")
    for name in (*PACKAGES, *BESIDE):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=leave)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", copy, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", copy, tmp_path_factory.mktemp("sdist"))


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    wanted = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not NOT_SHIPPED.search(str(path.relative_to(ROOT)))
    }

    assert contents(wheel) == wanted
    assert {"streamer/view/page/app.js", "models/zoo/default.onnx"} <= wanted


def test_the_sdist_makes_the_same_wheel_and_has_what_a_user_reads(
    sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    for name in (
        "sonostream.toml",
        "docs/WIRE.md",
        "packaging/sonostream.service",
        "examples/node/subscribe.mjs",
    ):
        assert (folder / name).exists(), name

    again = build("wheel", folder, tmp_path)

    assert contents(again) == contents(wheel)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a clean environment that has the wheel, and this one's packages to lean on."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False, symlinks=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install", "--quiet",
         "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)],
        check=True, timeout=200,
    )  # fmt: skip
    (own,) = (folder / "lib").glob("python*/site-packages")
    # A path only: what is linked from there to a checkout stays unknown.
    (own / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin"


def run(program: Path, *arguments: str, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, timeout=200, cwd=cwd, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_installed_program_analyses_records_and_shows_a_page(installed: Path, tmp_path: Path) -> None:
    sonostream, python = installed / "sonostream", installed / "python"
    where = run(
        python, "-c", "import streamer, models; print(streamer.__file__, models.__file__)", cwd=tmp_path
    )
    assert all(each.startswith(str(installed.parent)) for each in where.split())
    assert re.match(r"sonostream \d+\.\d+", run(sonostream, "--version", cwd=tmp_path))

    said = run(
        sonostream, "run", "phantom:?frames=12&width=160&height=120", "--record.path=study.mcap",
        "--http.port=0", "--publish.bind=tcp://127.0.0.1:0", cwd=tmp_path,
    )  # fmt: skip
    assert "all sources have ended" in said
    assert "frames of phantom" in run(sonostream, "extract", "study.mcap", "--csv", "f.csv", cwd=tmp_path)
    code = (
        "from urllib.request import urlopen\nfrom streamer.view import Viewer\n"
        "with Viewer('tcp://127.0.0.1:9', port=0) as viewer:\n"
        "    for name in ('', 'app.js', 'style.css'): print(len(urlopen(viewer.url + name).read()))"
    )
    assert all(int(size) > 1000 for size in run(python, "-c", code, cwd=tmp_path).split())


def test_recipes_are_found_where_they_are_installed(installed: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    code = (
        "from importlib.resources import files\nimport tomllib\n"
        "found = [p for p in files('train').joinpath('recipes').iterdir() if p.name.endswith('.toml')]\n"
        "[tomllib.loads(p.read_text()) for p in found]; print(len(found))"
    )
    assert int(run(installed / "python", "-c", code, cwd=tmp_path)) >= 1
