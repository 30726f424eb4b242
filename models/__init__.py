"""Everything about a model: the networks, the exported artifact and the engines that run it.

Importing this package does not import torch; the functions below do when they are called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.networks.cards import Card
from models.networks.registry import ModelError, card, list_models

if TYPE_CHECKING:
    from models.networks.base import Network, Output
    from models.networks.registry import Description

__all__ = ["Card", "ModelError", "Network", "Output", "card", "create", "describe", "list_models"]


def create(name: str, **options: Any) -> Network:
    """Build a network by its name; see `models.networks.registry.create`."""
    from models.networks.registry import create as create_network

    return create_network(name, **options)


def describe(name: str, **options: Any) -> Description:
    """Count a network and say what it reads and returns; see `models.networks.registry.describe`."""
    from models.networks.registry import describe as describe_network

    return describe_network(name, **options)


def __getattr__(name: str) -> Any:
    """Import the types that need torch when they are first asked for."""
    if name in {"Network", "Output"}:
        from models.networks import base

        return getattr(base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
