"""`sonostream licences`: what is installed with it, and under which licence."""

import json
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Annotated, NamedTuple

import typer

_UNKNOWN = "unknown"


class Dependency(NamedTuple):
    """An installed distribution that sonostream needs, or that one of those needs."""

    name: str
    version: str
    licence: str
    """An SPDX expression where the distribution gives one, else its own words."""


def licences(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List every installed dependency with its version and licence."""
    found = dependencies()
    if as_json:
        typer.echo(json.dumps([each._asdict() for each in found], indent=2))
        return
    width, length = (max(len(each[column]) for each in found) for column in (0, 1))
    for each in found:
        typer.echo(f"{each.name:{width}}  {each.version:{length}}  {each.licence}")


def dependencies(root: str = "sonostream") -> list[Dependency]:
    """Follow requirements from a distribution on, through all that is installed; of its own extras, too.

    :return: by name, with the distribution itself.
    """
    seen: dict[str, Dependency] = {}
    waiting = [root]
    while waiting:
        name = _normal(waiting.pop())
        if name in seen:
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:  # of an extra, or of another system
            continue
        seen[name] = Dependency(found.metadata["Name"], found.version, licence_of(found))
        for requirement in found.requires or ():
            wanted, _, marker = requirement.partition(";")
            match = re.match(r"[\w.-]+", wanted)
            if match and (name == _normal(root) or "extra ==" not in marker):
                waiting.append(match[0])
    return [seen[name] for name in sorted(seen)]


def licence_of(found: Distribution) -> str:
    """Say what a distribution's metadata tells of its licence: the expression, classifiers or free text."""
    metadata = found.metadata
    if expression := metadata.get_all("License-Expression"):
        return str(expression[0])
    classified = [
        each.rpartition(" :: ")[2]
        for each in metadata.get_all("Classifier") or ()
        if each.startswith("License :: ") and not each.endswith("OSI Approved")
    ]
    if classified:
        return "; ".join(classified)
    # Some put the whole text there.
    words = str((metadata.get_all("License") or [""])[0]).strip()
    return words.partition("\n")[0].strip() or _UNKNOWN


def _normal(name: str) -> str:
    """Name a distribution as PEP 503 does."""
    return re.sub(r"[-_.]+", "-", name).lower()
