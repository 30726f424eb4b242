"""What comes with it: pinned, licensed, and never a pickle."""

import ast
import importlib.util
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streamer.cli import app
from streamer.cli.licences import dependencies

ROOT = Path(__file__).parents[2]
SHIPPED = ("streamer", "models", "train", "benchmarks", "examples", ".ci")
UNPICKLERS = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "jsonpickle",
}
# These unpickle, or run what they are given, under other names.
FORBIDDEN_CALLS = {"recv_pyobj", "send_pyobj", "read_pickle", "to_pickle", "unsafe_load", "full_load"}


JUDGED = {"weights_only", "allow_pickle", "shell"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): version for name, version in pins}


def wanted() -> Iterator[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in (each for group in groups for each in group):
        match = re.match(r"[\w.-]+", requirement)
        assert match is not None
        yield normal(match[0])


def test_every_dependency_is_pinned_to_one_version() -> None:
    # TensorRT itself needs an NVIDIA GPU: no machine of the tests installs it.
    missing = set(wanted()) - set(pinned()) - {"sonostream", "tensorrt-cu13"}

    assert missing == set()
    assert all(re.fullmatch(r"[\w.+!-]+", version) for version in pinned().values())


def test_the_command_lists_every_installed_dependency_with_its_licence() -> None:
    listed = {normal(each.name): each for each in dependencies()}
    done = CliRunner().invoke(app, ["licences", "--json"])

    assert {"sonostream", "numpy", "pyzmq", "pydantic-core"} <= set(listed)
    assert [each["name"] for each in json.loads(done.output)] == [each.name for each in dependencies()]
    assert [each for each in listed.values() if each.licence == "unknown"] == []
    assert all(each.version for each in listed.values())


def test_none_of_them_binds_what_is_built_with_it_to_its_own_licence() -> None:
    strict = [each for each in dependencies() if re.search(r"(?<!L)GPL|Affero", each.licence)]

    assert strict == []


def sources() -> list[Path]:
    return sorted(path for folder in SHIPPED for path in (ROOT / folder).rglob("*.py"))


def faults(path: Path) -> Iterator[str]:
    """Whatever in a file could unpickle, or run what it reads."""
    tree = ast.parse(path.read_text(), str(path))
    for node in ast.walk(tree):
        where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        for name in imported(node):
            if name in UNPICKLERS and not only_names_an_error(tree, name):
                yield f"{where} imports {name}"
        if isinstance(node, ast.Call):
            yield from (f"{where} {fault}" for fault in call_faults(node))


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.partition(".")[0]


def only_names_an_error(tree: ast.AST, module: str) -> bool:
    """Whether all that is used of a module is the name of its error, for an `except`."""
    used = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == module
    ]
    return bool(used) and set(used) == {"UnpicklingError"}


def dotted(node: ast.AST) -> str:
    """A name such as `torch.load`; of what a call or an index returns, the last part."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def call_faults(node: ast.Call) -> Iterator[str]:
    name = dotted(node.func)
    keywords = {each.arg: ast.unparse(each.value) for each in node.keywords if each.arg in JUDGED}
    if name.rpartition(".")[2] in FORBIDDEN_CALLS:
        yield f"calls {name}"
    if name == "torch.load" and keywords.get("weights_only") != "True":
        yield "calls torch.load without weights_only=True"
    if name in ("np.load", "numpy.load") and keywords.get("allow_pickle", "False") != "False":
        yield "calls np.load with pickles allowed"
    if name in ("eval", "exec", "os.system", "os.popen") or keywords.get("shell") == "True":
        yield f"runs what it is given: {name}"


def test_nothing_that_is_shipped_unpickles_or_runs_what_it_reads() -> None:
    assert len(sources()) > 100
    assert [fault for path in sources() for fault in faults(path)] == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle\npickle.loads(b'')",
        "from pickle import loads",
        "import torch\ntorch.load('a')",
        "import torch\ntorch.load('a', weights_only=False)",
        "import numpy as np\nnp.load('a', allow_pickle=True)",
        "socket.recv_pyobj()",
        "eval('1')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
    ],
)
def test_the_search_finds_what_it_looks_for(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.packaging.test_supply_chain.ROOT", tmp_path)
    (tmp_path / "a.py").write_text(code)

    assert list(faults(tmp_path / "a.py"))


def verdict(report: dict[str, Any]) -> tuple[int, str]:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    answer: tuple[int, str] = module.verdict(report)
    return answer


def test_an_audit_fails_only_for_a_known_vulnerability_and_says_what_it_could_not_look_up() -> None:
    clean = {"name": "a", "version": "1", "vulns": []}
    unknown = {"name": "b", "skip_reason": "not found"}
    bad = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}

    assert verdict({"dependencies": [unknown]}) == (
        0,
        "no audit: this index tells nothing about vulnerabilities",
    )
    assert verdict({"dependencies": [clean, unknown]})[0] == 0
    code, said = verdict({"dependencies": [clean, unknown, bad]})
    assert code == 1
    assert said.splitlines() == [
        "c 2: CVE-1, fixed in 3",
        "2 packages audited, 1 vulnerabilities",
        "not in the database: b",
    ]
