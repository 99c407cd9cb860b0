"""Which components draw random numbers with their present settings."""

from __future__ import annotations

from typing import Any

from compose_vlp.graph.kinds import Kind

NOISES = ("dropout", "attention_dropout", "drop_path")
"""Settings that make a component draw where they are not zero."""


def may_draw(kind: Kind, config: Any) -> bool:
    """May a call draw? One of a kind that draws noise does not where all its noise settings are zero."""
    if kind.traits.draws != "noise":
        return kind.traits.draws == "choice"
    noises = [getattr(config, name) for name in NOISES if hasattr(config, name)]
    return not noises or any(noises)
