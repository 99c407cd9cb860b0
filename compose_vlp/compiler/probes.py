"""Does a component keep what it promises? Probes in training mode of what passes rely on.

A test "merged equals separate" is not enough: a softmax over the batch passes it where the batch is the same. Each
probe gives a sentence for every promise that it found broken.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from compose_vlp.compiler.noise import may_draw
from compose_vlp.graph.kinds import Kind
from compose_vlp.values import Labels, Logits, Mask, Value

FILLINGS = (float("nan"), 1e4)
Call = Callable[[Mapping[str, Any]], Any]


def probe(kind: Kind, implementation: Any, arguments: Mapping[str, Any]) -> list[str]:
    """The promises of `kind` that `implementation` (a module, or a function) breaks on these arguments.

    `arguments` are the ports' values, of at least two rows; anything else in it (`tokenizer`) is handed on as it is.
    Give it a module of its own: it is left in training mode, and its state may be another.
    """
    if isinstance(implementation, nn.Module):
        implementation.train()

    def call(given: Mapping[str, Any]) -> Any:
        return implementation(**given)

    def afresh(given: Mapping[str, Any]) -> Any:
        return copy.deepcopy(implementation)(**given)

    if kind.category == "loss":
        return loss_broken(kind, implementation, arguments)
    broken = []
    if kind.traits.state == "none" and isinstance(implementation, nn.Module):
        broken = state_unchanged(call, arguments, implementation) or nothing_remembered(call, arguments)
    if kind.traits.state == "learns":
        still = copy.deepcopy(implementation).requires_grad_(False)
        broken = [
            f"frozen, {problem}" for problem in probe(replace(kind, traits=kind.traits.frozen()), still, arguments)
        ]
    if kind.traits.rows == "independent":
        own = row_ports(kind, arguments)
        broken += [*rows_by_filling(afresh, arguments, own), *rows_by_derivative(afresh, arguments, own)]
    if not may_draw(kind, getattr(implementation, "config", None)):
        broken += nothing_drawn(call, arguments)
    offers = {
        context_indexed: kind.traits.context == "indexed",
        chosen_alike: kind.traits.selects,
        unscored_alike: kind.traits.chunks,
        read_alike: kind.traits.last_layer,
    }
    for tried, promised in offers.items():
        broken += tried(implementation, arguments) if promised else []
    return broken


def probe_adapter(kind: Kind, config: Any, adapter: nn.Module, linear: nn.Linear, x: Tensor) -> list[str]:
    """The promises of an adapter that it breaks on this map and `x` `[rows, positions, inputs]`, as `probe` does.

    One that can be merged has to compute in evaluation what the merged weight does.
    """

    def call(given: Mapping[str, Any]) -> Any:
        return adapter(given["x"], linear.weight, linear.bias)

    def afresh(given: Mapping[str, Any]) -> Any:
        return copy.deepcopy(adapter)(given["x"], linear.weight, linear.bias)

    arguments, own, broken = {"x": x}, frozenset({"x"}), list[str]()
    if kind.traits.state == "none":
        broken = state_unchanged(call, arguments, adapter) or nothing_remembered(call, arguments)
    if kind.traits.rows == "independent":
        broken += [*rows_by_filling(afresh, arguments, own), *rows_by_derivative(afresh, arguments, own)]
    if not may_draw(kind, config):
        broken += nothing_drawn(call, arguments)
    merged = getattr(adapter, "merged", None)
    if callable(merged):
        for parameter in adapter.eval().parameters():
            nn.init.normal_(parameter, std=0.1)  # one that begins as nothing is trained to be something
        if not _near(call(arguments), nn.functional.linear(x, merged(linear.weight), linear.bias)):
            broken.append("merged: the merged weight gives other products in evaluation")
    return broken


def row_ports(kind: Kind, arguments: Mapping[str, Any]) -> frozenset[str]:
    """The arguments whose rows are those of the result: their first dimension is named as that of the first port."""
    first_dims = {}
    for name, value in arguments.items():
        port = kind.ports.get(name) or next((p for p in kind.ports.values() if p.open), None)
        values = value if isinstance(value, list) else [value]
        if port is not None and isinstance(values[0], Value):
            patterns = [p for p in port.accepts if p.kind in (values[0].kind, "Value")]
            first_dims[name] = patterns[0].dims[0] if patterns and patterns[0].dims else ""
    first = next(iter(first_dims.values()), "")
    return frozenset(name for name, rows in first_dims.items() if rows == first)


def rows_by_filling(call: Call, arguments: Mapping[str, Any], own: frozenset[str]) -> list[str]:
    """Fill all other rows with NaN and with 1e4 (whole numbers: with those of other rows): a row stays bit for bit."""
    whole = _leaves(_seeded(call, arguments))
    rows = _rows(arguments, own)
    for row in range(rows):
        for filling in FILLINGS:
            filled = {n: _filled(v, row, rows, filling) if n in own else v for n, v in arguments.items()}
            for before, after in zip(whole, _leaves(_seeded(call, filled)), strict=True):
                if before.shape[:1] == (rows,) and not _same(before[row], after[row]):
                    return [f"rows: row {row} of the result changes when the other rows are filled with {filling}"]
    return []


def rows_by_derivative(call: Call, arguments: Mapping[str, Any], own: frozenset[str]) -> list[str]:
    """The derivative of a row of the result by any other row of what came in is zero."""
    inputs: list[Tensor] = []

    def tracked(leaf: Tensor) -> Tensor:
        if not leaf.is_floating_point():
            return leaf
        inputs.append(leaf.detach().clone().requires_grad_())
        return inputs[-1]

    given = {n: _mapped(tracked, v) if n in own else v for n, v in arguments.items()}
    rows = _rows(arguments, own)
    if not inputs:
        return []
    results = [leaf for leaf in _leaves(_seeded(call, given)) if leaf.requires_grad and leaf.shape[:1] == (rows,)]
    for result in results:
        for row in range(rows):
            total = (result[row] * torch.linspace(1, 2, result[row].numel()).reshape(result[row].shape)).sum()
            gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
                total, inputs, retain_graph=True, allow_unused=True
            )
            for gradient in gradients:
                others = [i for i in range(rows) if i != row]
                if gradient is not None and gradient.shape[:1] == (rows,) and bool((gradient[others] != 0).any()):
                    return [f"rows: row {row} of the result has a derivative by other rows"]
    return []


def state_unchanged(call: Call, arguments: Mapping[str, Any], module: nn.Module) -> list[str]:
    """No weight and no buffer is another after a forward."""
    before = {name: tensor.clone() for name, tensor in _state(module).items()}
    _seeded(call, arguments)
    after = _state(module)
    changed = [name for name in before.keys() | after.keys() if not _kept(before.get(name), after.get(name))]
    return [f"state: a forward changes {', '.join(sorted(changed))}"] if changed else []


def nothing_remembered(call: Call, arguments: Mapping[str, Any]) -> list[str]:
    """A second call with the same draws gives the same (what a module remembers may be no tensor)."""
    first, second = (_leaves(_seeded(call, arguments)) for _ in range(2))
    alike = all(torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True) for a, b in zip(first, second, strict=True))
    return [] if alike else ["state: a second call on the same values gives others"]


def nothing_drawn(call: Call, arguments: Mapping[str, Any]) -> list[str]:
    """Python's, numpy's and torch's generators stand where they stood."""
    with generators_kept():
        states = _generators()
        call(arguments)
        moved = [name for name, state in _generators().items() if not _equal(state, states[name])]
    return [f"draws: a forward moves the generator of {name}" for name in moved]


def context_indexed(module: Any, arguments: Mapping[str, Any]) -> list[str]:
    """`kv=keys_values(context)` with `rows=` gives what the context's rows themselves give."""
    context = arguments.get("context")
    if context is None:
        return []
    rows = torch.arange(len(context.features)).flip(0)
    rest = {name: value for name, value in arguments.items() if name != "context"}
    indexed = _mapped(lambda leaf: leaf[rows] if leaf.dim() else leaf, context)
    expected = _seeded(lambda given: module(**given), {**rest, "context": indexed})
    actual = _seeded(lambda given: module(**given), {**rest, "kv": module.keys_values(context), "rows": rows})
    return [] if _near(actual, expected) else ["context: keys_values(context) with rows= gives other values"]


def chosen_alike(head: Any, arguments: Mapping[str, Any]) -> list[str]:
    """`at=` gives the rows of the whole result that it names."""
    whole = _seeded(lambda given: head(**given), arguments)
    if whole.scores.dim() < 3:
        return []
    flat = whole.scores.flatten(0, -2)
    at = torch.arange(len(flat)).flip(0)[::2]
    chosen = _seeded(lambda given: head(**given), {**arguments, "at": at})
    alike = torch.equal(chosen.at, at) and torch.allclose(chosen.scores, flat[at], rtol=1e-5, atol=1e-6)
    return [] if alike else ["selects: `at` gives other scores than the whole result has there"]


def unscored_alike(head: Any, arguments: Mapping[str, Any]) -> list[str]:
    """`scored=False` leaves a product that gives the scores."""
    whole = _seeded(lambda given: head(**given), arguments)
    if whole.scores.dim() < 3:
        return []
    at = torch.arange(whole.scores.flatten(0, -2).shape[0])
    left = _seeded(lambda given: head(**given), {**arguments, "at": at, "scored": False})
    alike = torch.equal(left.at, at) and torch.allclose(left.scores, whole.scores.flatten(0, -2), rtol=1e-5, atol=1e-6)
    return [] if alike else ["chunks: what `scored=False` leaves gives other scores than the whole result has"]


def read_alike(tower: Any, arguments: Mapping[str, Any]) -> list[str]:
    """`read=` gives what the whole result has at the positions that it names; without noise, which is drawn anew."""
    still = copy.deepcopy(tower).eval()
    whole = still(**arguments)
    part = whole.parts[0]
    flat = torch.tensor([1, 2, part.length + 1])  # two of the first row, one of the second, none of others
    reads: list[list[Any]] = [["at", part.name, flat]]
    places = [flat // part.length, flat % part.length + part.start]
    if part.cls != "none":
        reads.append(["cls", part.name])
        place = part.start if part.cls == "first" else part.start + part.length - 1
        rows = torch.arange(len(whole.features))
        places = [torch.cat((places[0], rows)), torch.cat((places[1], torch.full_like(rows, place)))]
    actual = still(**arguments, read=reads).features
    expected = whole.features
    alike = actual.shape == expected.shape and torch.allclose(
        actual[places[0], places[1]], expected[places[0], places[1]], rtol=1e-4, atol=1e-5
    )
    return [] if alike else ["last_layer: `read` gives other features than the whole result has at these positions"]


# --- losses


def loss_broken(kind: Kind, loss: Any, arguments: Mapping[str, Any]) -> list[str]:
    """The promises of a loss that it breaks on these arguments."""

    def call(given: Mapping[str, Any]) -> Any:
        return loss(**given)

    broken = nothing_drawn(call, arguments)
    broken += state_unchanged(call, arguments, loss) if isinstance(loss, nn.Module) else []
    if kind.traits.rows == "independent":
        broken += mean_over_rows(call, arguments, row_ports(kind, arguments))
    if kind.traits.selects:
        broken += places_suffice(loss, arguments)
    return broken


def mean_over_rows(call: Call, arguments: Mapping[str, Any], own: frozenset[str]) -> list[str]:
    """The loss of a batch is the mean of those of its pieces, weighed by their numbers of terms."""
    rows = _rows(arguments, own)
    whole, total, count = call(arguments), torch.zeros(()), torch.zeros(())
    for piece in (slice(0, 1), slice(1, rows)):
        result = call({name: _cut(value, piece, rows) for name, value in arguments.items()})
        terms = result.count if result.count is not None else torch.tensor(piece.stop - piece.start)
        total, count = total + result.value.detach() * terms, count + terms
    alike = torch.allclose(whole.value.detach().float(), (total / count.clamp(min=1)).float(), rtol=1e-3, atol=1e-5)
    return [] if alike else ["rows: the loss of a batch is not the mean over its rows (or over `Scalar.count` terms)"]


def places_suffice(loss: Any, arguments: Mapping[str, Any]) -> list[str]:
    """Logits at the places that `selects` names give the loss of all logits."""
    named = [value for kind in (Mask, Labels) for value in arguments.values() if isinstance(value, kind)]
    scores = {n: v for n, v in arguments.items() if isinstance(v, Logits) and v.scores.dim() == 3}
    texts = [value.text for value in scores.values() if value.text is not None]
    if not scores or not (named or texts):
        return []
    at = loss.selects((named or texts)[0])
    chosen = {n: replace(v, scores=v.scores.flatten(0, 1)[at], at=at) for n, v in scores.items()}
    whole, part = loss(**arguments), loss(**{**arguments, **chosen})
    alike = torch.allclose(whole.value, part.value, rtol=1e-3, atol=1e-5)
    return [] if alike else ["selects: logits at the places that it names give another loss than all logits"]


def _cut(value: Any, piece: slice, rows: int) -> Any:
    return _mapped(lambda leaf: leaf[piece] if leaf.shape[:1] == (rows,) else leaf, value)


# --- help -------------------------------------------------------------------------------------------------------


def _seeded(call: Call, arguments: Mapping[str, Any]) -> Any:
    """A call with the generator where it always begins, so that noise is the same noise."""
    with generators_kept():
        torch.manual_seed(0)
        return call(arguments)


@contextmanager
def generators_kept() -> Iterator[None]:
    """After it Python's, numpy's and torch's generators stand where they stood before."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (what libraries use is watched)
    with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _generators() -> dict[str, Any]:
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():
        states["CUDA"] = torch.cuda.get_rng_state()
    return states


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, tuple):
        return all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(np.array_equal(a, b))


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _kept(before: Tensor | None, after: Tensor | None) -> bool:
    return before is not None and after is not None and _same(before, after)


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) and _nans(a) == _nans(b)


def _nans(tensor: Tensor) -> int:
    return int(tensor.isnan().sum()) if tensor.is_floating_point() else 0


def _near(a: Any, b: Any) -> bool:
    pairs = zip(_leaves(a), _leaves(b), strict=True)
    return all(x.shape == y.shape and torch.allclose(x.double(), y.double(), atol=1e-5) for x, y in pairs)


def _leaves(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _mapped(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    return pytree.tree_map_only(Tensor, change, value)


def _rows(arguments: Mapping[str, Any], own: frozenset[str]) -> int:
    return len(_leaves([arguments[name] for name in sorted(own)])[0])


def _filled(value: Any, row: int, rows: int, filling: float) -> Any:
    def change(leaf: Tensor) -> Tensor:
        if leaf.shape[:1] != (rows,):
            return leaf
        others = torch.full_like(leaf, filling) if leaf.is_floating_point() else leaf.roll(1, 0)
        changed = others.clone()
        changed[row] = leaf[row]
        return changed

    return _mapped(change, value)
