"""Attention: the one function that every component calls, and the choice of its backend."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from compose_vlp.components.attention import eager, sdpa, xformers_backend
from compose_vlp.components.attention.watch import BACKEND, is_watched
from compose_vlp.errors import UserError, did_you_mean

VARIABLE: Final = "COMPOSE_VLP_ATTENTION"


class Backend(Protocol):
    """What a backend offers: `attend` with every argument given."""

    def __call__(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        *,
        valid: Tensor | None,
        causal: bool,
        bias: Tensor | None,
        dropout: float,
    ) -> Tensor: ...


BACKENDS: Final[dict[str, Backend]] = {
    "xformers": xformers_backend.attend,
    "sdpa": sdpa.attend,
    "eager": eager.attend,
}


class Choice(NamedTuple):
    """The backend that a call gets, and why."""

    backend: str
    reason: str


_asked: ContextVar[str | None] = ContextVar("attention_backend", default=None)


def attend(
    queries: Float[Tensor, "batch n heads width"],
    keys: Float[Tensor, "batch m heads width"],
    values: Float[Tensor, "batch m heads value_width"],
    *,
    valid: Bool[Tensor, "batch m"] | None = None,
    causal: bool = False,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "batch n heads value_width"]:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1), each head by itself.

    Args:
        queries: `[batch, n, heads, width]`; scores are divided by the root of `width`.
        keys: `[batch, m, heads, width]`.
        values: `[batch, m, heads, value_width]`.
        valid: `[batch, m]`, false at keys that nobody may see (padding).
        causal: query i sees keys up to `i + m - n`: the last query sees everything, which is what a cache needs.
        bias: broadcastable to `[batch, heads, n, m]`; boolean: may see; floating: added to the scores.
        dropout: probability that a weight is dropped; the caller gives 0 in evaluation.

    Returns:
        `[batch, n, heads, value_width]`; zeros (and no gradient) where a query may see nothing.

    Raises:
        UserError: the backend that was asked for does not exist, or cannot take these tensors.
    """
    run = BACKENDS[explain(queries, keys, values).backend]
    return run(queries, keys, values, valid=valid, causal=causal, bias=bias, dropout=dropout)


def explain(queries: Tensor, keys: Tensor, values: Tensor) -> Choice:  # noqa: ARG001 (the call as attend gets it)
    """Say which backend `attend` takes for these tensors, and why.

    Raises:
        UserError: as `attend`.
    """
    if is_watched():
        return Choice(BACKEND, "its weights are watched")
    asked, place = _wish()
    if asked == "auto":
        return _automatic(queries, values)
    _check(asked, place)
    refusal = xformers_backend.refusal(queries, values) if asked == "xformers" else None
    if refusal:
        raise UserError(f"{place} asks for the attention backend 'xformers': {refusal}", hints=["'auto' chooses"])
    return Choice(asked, f"asked for by {place}")


def _wish() -> tuple[str, str]:
    """The backend that is asked for, and by what."""
    asked = _asked.get()
    return (os.environ.get(VARIABLE, "auto") or "auto", VARIABLE) if asked is None else (asked, "use_backend")


for _asks in (is_watched, _wish):
    # What torch.compiler.assume_constant_result does, which imports a compiler: torch.compile cannot see into these,
    # and asks them once, where it traces a layer.
    setattr(_asks, "_dynamo_marked_constant", True)  # noqa: B010 (functions have no such attribute for mypy)


def _automatic(queries: Tensor, values: Tensor) -> Choice:
    refusal = xformers_backend.refusal(queries, values)
    if refusal:
        return Choice("sdpa", refusal)
    if torch.compiler.is_compiling():
        return Choice("sdpa", "torch.compile sees into sdpa, not into xformers")
    return Choice("xformers", "CUDA: its kernels skip padding, and take a bias without the full score matrix")


def _check(name: str, place: str) -> None:
    if name not in BACKENDS:
        raise UserError(
            f"{place}: no attention backend is called {name!r}",
            hints=[*did_you_mean(name, (*BACKENDS, "auto")), f"backends: auto, {', '.join(BACKENDS)}"],
        )


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within this context (and thread) `attend` takes the named backend, or chooses again (`auto`).

    Raises:
        UserError: no such backend.
    """
    if name != "auto":
        _check(name, "use_backend")
    token = _asked.set(name)
    try:
        yield
    finally:
        _asked.reset(token)
