"""Weights of layers that look at one context, for a component that looks at several."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from torch import nn

_LAYER = re.compile(r"layers\.(\d+)\.(.+)")
_ONE_OF_SEVERAL = re.compile(r"(.+\.cross_attention\.branch)\.attentions\.\d+\.(.+)")


def for_contexts(names: Collection[str], module: nn.Module) -> dict[str, str]:
    """The file's name for each of the module's; a name that the file has as it is stands for itself.

    Where layers stand once for each context (ALBEF's NLVR2), all twins take the weights of the file's one layer; where
    a layer has a cross-attention for each (BLIP's), all take those of its only one, and what merges them stays new.
    """
    twins = _twins(names, module)
    originals = {}
    for ours in module.state_dict():
        candidates = [_untwinned(ours, twins), *_merged(ours)] if twins > 1 else [ours, *_merged(ours)]
        original = next((name for name in candidates if name in names), None)
        if original is not None:
            originals[ours] = original
    return originals


def _twins(names: Collection[str], module: nn.Module) -> int:
    """How many layers of the module come from each of the file's; 1 where it has no layers, or as many."""
    mine, in_file = _depth(module.state_dict()), _depth(names)
    contexts = getattr(getattr(module, "config", None), "contexts", None) or 1
    return contexts if in_file and mine == contexts * in_file else 1


def _depth(names: Collection[str]) -> int:
    return 1 + max((int(match[1]) for name in names if (match := _LAYER.match(name))), default=-1)


def _untwinned(name: str, twins: int) -> str:
    match = _LAYER.match(name)
    return f"layers.{int(match[1]) // twins}.{match[2]}" if match else name


def _merged(name: str) -> Iterator[str]:
    match = _ONE_OF_SEVERAL.match(name)
    if match:
        yield f"{match[1]}.{match[2]}"
