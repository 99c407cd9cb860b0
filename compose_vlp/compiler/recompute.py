"""Layers that keep nothing but what they are given, and run again where the backward needs the rest (Chen et al. 2016,
"Training Deep Nets with Sublinear Memory Cost").

torch's `checkpoint` does it, for each repeated layer by itself: it gives the second run the noise and the precision of
the first. What else stands around a layer while it runs is put around it again here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils.checkpoint import checkpoint

from compose_vlp.auxiliary import unheard
from compose_vlp.compiler.model import Model
from compose_vlp.graph.graph import CheckedBlueprint


def repeated_layers(module: nn.Module) -> Iterator[nn.Module]:
    """Yield what repeats: the elements of lists and sequences of one class that have parts of their own.

    The outermost ones; a layer in a layer (an expert) is none.
    """
    children = list(module.children())
    if isinstance(module, nn.ModuleList | nn.Sequential) and children:
        same = len({type(child) for child in children}) == 1
        if same and all(list(child.children()) and any(True for _ in child.parameters()) for child in children):
            yield from children
            return
    for child in children:
        yield from repeated_layers(child)


@dataclass(frozen=True)
class Recomputed:
    """A layer that runs again; `moves`: a forward of it may change its buffers (statistics of a batch norm)."""

    layer: nn.Module
    moves: bool

    def needs_gradients(self, *given: Any) -> bool:
        """Would a call keep anything for a backward?"""
        if not torch.is_grad_enabled():
            return False
        return any(tensor.requires_grad for tensor in (*self.layer.parameters(), *tensors_in(given)))


def recomputed_layers(model: Model, blueprint: CheckedBlueprint, names: Collection[str]) -> list[Recomputed]:
    """List the layers of these components of a model."""
    parts = model.parts()
    return [
        Recomputed(layer, moves=blueprint.components[name].kind.traits.state != "none")
        for name in names
        for layer in repeated_layers(parts[name])
    ]


@contextmanager
def recomputing(layers: Iterable[Recomputed]) -> Iterator[None]:
    """Within it, a call of these layers that runs with gradients keeps what it is given alone.

    Modules stay what they are and where they are, and so do the names of their weights; outside of it (evaluation,
    generation, what is exported) nothing is changed.
    """
    with replaced_forwards({each.layer: partial(_run, each, each.layer.forward) for each in layers}):
        yield


@contextmanager
def replaced_forwards(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Within it, these modules run by other forwards, which stand on the modules themselves."""
    before = {layer: vars(layer).get("forward") for layer in forwards}
    try:
        for layer, forward in forwards.items():
            layer.forward = forward
        yield
    finally:
        for layer, forward_before in before.items():
            if forward_before is not None:
                layer.forward = forward_before
            elif "forward" in vars(layer):
                del layer.forward


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors within lists, mappings and dataclasses, as those that towers hand to their layers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from tensors_in(getattr(value, field.name))


def _run(each: Recomputed, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not each.needs_gradients(args, kwargs):
        return forward(*args, **kwargs)
    twice = _as_before(forward, each)
    return checkpoint(lambda *given: twice(*given, **kwargs), *args, use_reentrant=False)


def _as_before(forward: Callable[..., Any], each: Recomputed) -> Callable[..., Any]:
    """A forward that finds the same around it when it is called again, and leaves no other trace then.

    A backward may run in another thread, which has neither context variables nor modes of torch's functions.
    """
    context, modes = copy_context(), _get_current_function_mode_stack()
    buffers = {path: buffer.clone() for path, buffer in each.layer.named_buffers()} if each.moves else {}
    calls = 0

    def again(*args: Any, **kwargs: Any) -> Any:
        with ExitStack() as around:
            for mode in modes:
                around.enter_context(mode)
            around.enter_context(unheard())
            around.enter_context(_with_buffers(each.layer, buffers))
            return forward(*args, **kwargs)

    def run(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return forward(*args, **kwargs) if calls == 1 else context.copy().run(partial(again, **kwargs), *args)

    return run


@contextmanager
def _with_buffers(layer: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it, a layer has copies of these buffers; its own stay as they are."""
    own = dict(layer.named_buffers())
    try:
        for path, value in values.items():
            _put_buffer(layer, path, value.clone())
        yield
    finally:
        for path in values:
            _put_buffer(layer, path, own[path])


def _put_buffer(layer: nn.Module, path: str, buffer: Tensor) -> None:
    owner, _, name = path.rpartition(".")
    setattr(layer.get_submodule(owner), name, buffer)
