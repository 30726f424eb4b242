"""What networks are trained to minimise: one file per paper, and one for everything else."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from models.networks.base import Network
from train.objectives.acsnet import ACSNetObjective, ACSNetOptions
from train.objectives.base import Objective, ObjectiveError, Options
from train.objectives.ctg_net import CTGNetObjective, CTGNetOptions
from train.objectives.generic import GenericObjective, GenericOptions
from train.objectives.la_net import LANetObjective, LANetOptions
from train.objectives.mtl_oca import MTLOCAObjective, MTLOCAOptions
from train.objectives.rmtl_net import RMTLNetObjective, RMTLNetOptions

__all__ = ["OBJECTIVES", "Objective", "ObjectiveError", "make_objective", "resolve"]


class _Entry(NamedTuple):
    options: type[Options]
    build: Callable[[Network, Any], Objective]


OBJECTIVES: dict[str, _Entry] = {
    "generic": _Entry(GenericOptions, GenericObjective),
    "ctg_net": _Entry(CTGNetOptions, CTGNetObjective),
    "mtl_oca": _Entry(MTLOCAOptions, MTLOCAObjective),
    "rmtl_net": _Entry(RMTLNetOptions, RMTLNetObjective),
    "la_net": _Entry(LANetOptions, LANetObjective),
    "acsnet": _Entry(ACSNetOptions, ACSNetObjective),
}
"""By the name in a recipe's `[objective]`."""


def make_objective(network: Network, name: str, options: Mapping[str, object]) -> Objective:
    """Build an objective for a network.

    :param name: one of `OBJECTIVES`.
    :param options: as in a recipe's `[objective]`, without the name.
    :raises ObjectiveError: if there is no such objective or option, a value is not one it can have, or the
        network does not return what the objective compares.
    """
    return _entry(name).build(network, _read(name, options))


def resolve(name: str, options: Mapping[str, object]) -> dict[str, object]:
    """Fill in what is left out of an objective's options.

    :raises ObjectiveError: if there is no such objective or option, or a value is not one it can have.
    """
    values: dict[str, object] = msgspec.to_builtins(_read(name, options))
    # TOML, in which the values are kept, has no word for nothing.
    return {key: value for key, value in values.items() if value is not None}


def _entry(name: str) -> _Entry:
    if name not in OBJECTIVES:
        raise ObjectiveError(f"no objective named {name!r}; objective.name is one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]


def _read(name: str, options: Mapping[str, object]) -> Options:
    kind = _entry(name).options
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    for key in options:
        if key not in known:
            raise ObjectiveError(f"objective {name} has no option {key!r}; it has {', '.join(known)}")
    try:
        return msgspec.convert(dict(options), kind)
    except msgspec.ValidationError as error:
        raise ObjectiveError(f"objective {name}: {error}") from None
