"""Looking at what attention looks at: the weights of a chosen module's attention, as part of the graph of gradients."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, Final

import torch
from torch import Tensor, nn

_noted: ContextVar[list[Tensor] | None] = ContextVar("attention_weights", default=None)
BACKEND: Final = "eager"
"""The one backend that has the weights as a tensor."""


def note(weights: Tensor) -> None:
    """Keep these weights `[batch, heads, n, m]` where somebody watches; they are part of the graph of gradients even
    where nothing that they come from is trained."""
    notes = _noted.get()
    if notes is not None:
        if torch.is_grad_enabled() and not weights.requires_grad:
            weights.requires_grad_()
        notes.append(weights)


def is_watched() -> bool:
    """Is the attention that runs now one that somebody watches?"""
    return _noted.get() is not None


@contextmanager
def watched(attention: nn.Module) -> Iterator[list[Tensor]]:
    """Within this context the weights of every attention that runs inside `attention` are put into the list.

    They are those before dropout, `[batch, heads, n, m]`, and gradients reach them: `torch.autograd.grad(score, maps)`
    is what Grad-CAM needs (ALBEF, Li et al. 2021, appendix on grounding). This module's attention runs by the readable
    backend meanwhile; all other modules' runs as it does otherwise.
    """
    maps: list[Tensor] = []
    tokens: list[Any] = []

    def before(*_: Any) -> None:
        tokens.append(_noted.set(maps))

    def after(*_: Any) -> None:
        _noted.reset(tokens.pop())

    with ExitStack() as hooks:
        hooks.callback(attention.register_forward_pre_hook(before).remove)
        hooks.callback(attention.register_forward_hook(after, always_call=True).remove)
        yield maps
