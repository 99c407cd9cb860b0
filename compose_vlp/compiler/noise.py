"""Which components draw random numbers with their present settings."""

from __future__ import annotations

from typing import Any

from compose_vlp.graph.kinds import Kind


def may_draw(kind: Kind, config: Any) -> bool:
    """May a call draw? One of a kind that draws noise does, unless the settings that it names for this are all 0."""
    if kind.traits.draws != "noise":
        return kind.traits.draws == "choice"
    return not kind.traits.noise or any(getattr(config, name) for name in kind.traits.noise)
