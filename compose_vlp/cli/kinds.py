"""A kind of component as plain data: what `components` prints, as text and as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from compose_vlp import registry
from compose_vlp.graph.kinds import Kind, Pattern, Port, Setting, Traits

CATEGORIES: Final = {
    "component": "Components",
    "loss": "Losses",
    "function": "Functions",
    "slot": "Inner parts of towers",
    "adapter": "Adapters of linear maps",
    "tokenizer": "Tokenizers",
    "source": "Data sources",
    "optimizer": "Optimizers",
}
_SIGNS: Final = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "multipleof": "multiple of"}


def line(name: str) -> tuple[str, str]:
    """Category and first sentence of a kind, which is not imported for it where it is built in."""
    listed = registry.catalogue().get(name)
    if listed:
        return listed.category, listed.summary
    kind = registry.get(name)
    return kind.category, kind.doc.split("\n")[0]


def kind_json(kind: Kind) -> dict[str, Any]:
    """Everything about a kind, as JSON."""
    return {
        "name": kind.name,
        "category": kind.category,
        "doc": kind.doc,
        "source": kind.source,
        "ports": [port_json(port) for port in kind.ports.values()],
        "gives": gives(kind.returns),
        "settings": [setting_json(setting) for setting in kind.settings.values()],
        "parts": dict(kind.parts),
        "auxiliary": list(kind.traits.auxiliary),
        "promises": promises(kind.traits) if kind.category in ("component", "function") else [],
    }


def port_json(port: Port) -> dict[str, Any]:
    """One port."""
    return {
        "name": port.name,
        "takes": takes(port),
        "several": port.several,
        "open": port.open,
        "required": port.required and not port.open,
        "default": None if port.default is ... else port.default,
        "flow": None if port.detached else port.flow.name.lower(),
        "detached": port.detached,
    }


def setting_json(setting: Setting) -> dict[str, Any]:
    """One setting."""
    return {
        "name": setting.name,
        "type": setting.annotation,
        "default": None if setting.default is ... else setting.default,
        "required": setting.default is ... and setting.inferred is None,
        "inferred": setting.inferred,
        "bounds": dict(setting.bounds),
        "description": setting.description,
    }


def takes(port: Port) -> list[str]:
    """List what may be given to a port: kinds of values, words to choose from, types of literals."""
    literals = [f'"{choice}"' for choice in port.choices] or [name for name in port.literal_types if port.literal]
    return [*(str(pattern) for pattern in port.accepts), *literals]


def gives(returns: Pattern | Mapping[str, Pattern] | None) -> str | dict[str, str] | None:
    """Say what comes out: one value, or several under names."""
    if isinstance(returns, Mapping):
        return {name: str(pattern) for name, pattern in returns.items()}
    return None if returns is None else str(returns)


def bounds(setting: Setting) -> str:
    """`> 0, < 1`."""
    return ", ".join(f"{_SIGNS[name]} {value}" for name, value in setting.bounds.items() if name in _SIGNS)


def type_of(setting: Setting) -> str:
    """`int`, `patch | convolution`."""
    choices = re.sub(r"Literal\[(.*?)\]", lambda match: match[1].replace("', '", " | ").strip("'"), setting.annotation)
    return choices.replace("NoneType", "none").replace("| None", "| none")


def default(setting: Setting) -> str:
    """Write what stands for a setting that is not written."""
    if setting.inferred is not None:
        return f"from {setting.inferred}" if setting.inferred else "inferred"
    return "must be given" if setting.default is ... else written(setting.default)


def written(value: Any) -> str:
    """Write a value as a blueprint does."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(written(item) for item in value)}]"
    return str(value)


def own_losses(kind: Kind) -> str:
    """Its auxiliary losses, each with its weight where nothing is written."""
    return ", ".join(f"{name} (weight {written(kind.settings[name].default)})" for name in kind.traits.auxiliary)


def promises(traits: Traits) -> list[str]:
    """List what the compiler may rely on."""
    held = {
        "a row of the result depends on its own row alone": traits.rows == "independent",
        "a call changes no state": traits.state == "none",
        "nothing is drawn at random": traits.draws == "none",
        "one context serves several rows": traits.context == "indexed",
        "only positions that are asked for are computed": traits.selects,
        "its scores may be made in chunks by the loss": traits.chunks,
        "its last layer computes positions that are read alone": traits.last_layer,
    }
    return [sentence for sentence, holds in held.items() if holds]
