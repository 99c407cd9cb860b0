"""What a plugin's component, function or loss promises, tried on a tiny copy before a program relies on it.

A built-in kind is tried by the tests. One from elsewhere is tried here, once for its settings and the kinds of values
that it is given: a promise that is broken, or a result that is not what `forward` is annotated to give, is a mistake in
the plugin. Where no tiny copy can be made, or it cannot be called, nothing is relied on.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from compose_vlp import registry
from compose_vlp.adapters import MapSizes
from compose_vlp.compiler.probes import generators_kept, probe, probe_adapter
from compose_vlp.compiler.results import mismatch
from compose_vlp.compiler.synthetic import StandIn
from compose_vlp.compiler.tiny import WORDS, CannotMakeError, Maker, shrunk
from compose_vlp.errors import Span, UserError
from compose_vlp.graph.graph import AdapterEntry
from compose_vlp.graph.kinds import Kind, Traits
from compose_vlp.graph.plan import Arg, Constant, ParamRef, Plan, Ref, refs_in
from compose_vlp.graph.plan import Call as PlanCall
from compose_vlp.graph.types import ScalarType, TextType, ValueType

SMALL: Final = 2_000_000
"""Parameters up to which a component is tried as it is."""
LARGEST: Final = 40_000_000
"""Parameters beyond which it is not made a second time."""
DIVISORS: Final = (16, 8, 4, 2)
"""By what the sizes of a larger one are divided: the first that works."""

TRIED: Final = MapSizes(256, 192)
"""The linear map on which an adapter is tried."""

Ports = Mapping[str, Any]
"""Arguments as an `output` hook is given them: types, tuples of them, literals."""


@dataclass(frozen=True)
class Trial:
    """What came of trying: promises that were broken, a result of another kind, or why it could not be tried."""

    broken: tuple[str, ...] = ()
    wrong: str = ""
    doubt: str = ""


_TRIALS: dict[object, Trial] = {}
"""What was tried in this process."""


def holding(kind: Kind, config: Any, call: PlanCall, plan: Plan) -> tuple[Kind, str]:
    """The kind of a call with the promises that hold, and why these are fewer than it makes (empty, where all hold).

    Raises:
        UserError: a promise is broken, or the result is not what `forward` is annotated to give.
    """
    if registry.is_built_in(kind):
        return kind, ""
    ports = {name: _type(arg, plan, kind, name) for name, arg in call.args}
    key = (kind.implementation, _written(config), _form(ports))
    if key not in _TRIALS:
        _TRIALS[key] = _tried(kind, config, ports)
    trial = _TRIALS[key]
    if trial.wrong or trial.broken:
        raise _blamed(kind, call, trial)
    if trial.doubt:
        return dataclasses.replace(kind, traits=_nothing(kind.traits)), trial.doubt
    return kind, ""


def _nothing(traits: Traits) -> Traits:
    """The same without what a program would rely on; what the graph was checked by stays."""
    return dataclasses.replace(
        traits,
        rows="batch",
        state="effect" if traits.state in ("none", "learns") else traits.state,
        draws="noise" if traits.draws == "none" else traits.draws,
        noise=(),
        context="no",
        keys=None,
        selects=False,
        last_layer=False,
        chunks=False,
    )


def _blamed(kind: Kind, call: PlanCall, trial: Trial) -> UserError:
    function = kind.implementation if kind.category == "function" else kind.implementation.forward
    source = function if trial.wrong else kind.implementation
    file = inspect.getsourcefile(source) or kind.source
    line = inspect.getsourcelines(source)[1]
    which = f"`{call.target}` ({kind.name})" if call.target != kind.name else f"`{kind.name}`"
    place = f", called for `{call.id}`" + (f" at {call.span}" if call.span else "")
    problem = trial.wrong or f"breaks a promise of {kind.category} {kind.name!r}: {'; '.join(trial.broken)}"
    hints = (
        ["what `forward` gives is held against its annotation"]
        if trial.wrong
        else [f"promised are {_promised(kind.traits)}; leave out of the declaration what does not hold"]
    )
    return UserError(f"{which} {problem}{place}", span=Span(file, line, 1, 2), hints=hints)


def _promised(traits: Traits) -> str:
    made = [f'rows="{traits.rows}"', f'state="{traits.state}"', f'draws="{traits.draws}"']
    made += [f'context="{traits.context}"'] if traits.context != "no" else []
    made += [f"{name}=True" for name in ("selects", "chunks", "last_layer") if getattr(traits, name)]
    return ", ".join(made)


def holding_adapter(adapter: AdapterEntry) -> AdapterEntry:
    """An adapter with the promises that hold, tried on a map of its own.

    Raises:
        UserError: a promise is broken, or what it computes is of another shape than a map's product.
    """
    if registry.is_built_in(adapter.kind):
        return adapter
    key = (adapter.kind.implementation, _written(adapter.config))
    if key not in _TRIALS:
        _TRIALS[key] = _adapter_tried(adapter)
    trial = _TRIALS[key]
    if trial.wrong or trial.broken:
        source = adapter.kind.implementation
        file, line = inspect.getsourcefile(source) or adapter.kind.source, inspect.getsourcelines(source)[1]
        problem = trial.wrong or f"breaks a promise of adapter {adapter.kind.name!r}: {'; '.join(trial.broken)}"
        hints = [f"promised are {_promised(adapter.kind.traits)}; leave out of the declaration what does not hold"]
        raise UserError(f"`adapters.{adapter.name}` {problem}", span=Span(file, line, 1, 2), hints=hints)
    traits = _nothing(adapter.kind.traits) if trial.doubt else adapter.kind.traits
    return dataclasses.replace(adapter, kind=dataclasses.replace(adapter.kind, traits=traits))


def _adapter_tried(adapter: AdapterEntry) -> Trial:
    try:
        with _apart():
            linear = nn.Linear(TRIED.inputs, TRIED.outputs)
            made = adapter.kind.implementation(adapter.config, TRIED).train()
            x = torch.randn(3, 5, TRIED.inputs)
            shape = made(x, linear.weight, linear.bias).shape
            if shape != (3, 5, TRIED.outputs):
                return Trial(wrong=f"gives {list(shape)} where a map gives {[3, 5, TRIED.outputs]}")
            return Trial(broken=tuple(probe_adapter(adapter.kind, adapter.config, made, linear, x)))
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises on made-up values; on real ones it is raised again
        lines = str(error).splitlines() or [""]
        return Trial(doubt=f"it could not be tried ({type(error).__name__}: {lines[0]})")


# --- trying


def _tried(kind: Kind, config: Any, ports: Ports) -> Trial:
    try:
        with _apart():
            candidates = _divisors(kind, config)
            for number, by in enumerate(candidates):
                try:
                    return _tried_at(kind, config, ports, by)
                except Exception:
                    if number == len(candidates) - 1:
                        raise
    except CannotMakeError as error:
        return Trial(doubt=str(error))
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises on made-up values; on real ones it is raised again
        lines = str(error).splitlines() or [""]
        return Trial(doubt=f"a tiny copy of it could not be tried ({type(error).__name__}: {lines[0]})")
    return Trial(doubt=f"it has more than {LARGEST // 10**6} M parameters, and no smaller copy of it can be made")


def _divisors(kind: Kind, config: Any) -> tuple[int, ...]:
    """By what to divide sizes, one after the other, until it works; 1 last, unless that is too large."""
    if kind.category == "function":
        return (1,)
    try:
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in kind.implementation(config).parameters())
    except Exception:  # noqa: BLE001 - it cannot be made on meta, or not at all: which of the two is seen below
        return (*DIVISORS, 1)
    if count <= SMALL:
        return (1,)
    return DIVISORS if count > LARGEST else (*DIVISORS, 1)


def _tried_at(kind: Kind, config: Any, ports: Ports, by: int) -> Trial:
    """With sizes divided; raises what the plugin raises."""
    small = config if config is None or by == 1 else type(config).model_validate(shrunk(config.model_dump(), by))
    if by != 1 and kind.check is not None and kind.check(small):
        raise CannotMakeError("its settings do not go together where its sizes are small")
    kinds = {name: shrunk(given, by) if _is_type(given) else given for name, given in ports.items()}
    expected = ScalarType() if kind.category == "loss" else kind.output(small, kinds)
    made = kind.implementation if kind.category == "function" else kind.implementation(small)
    maker = Maker()
    arguments = {name: _argument(given, maker) for name, given in kinds.items()}
    function = made if kind.category == "function" else made.forward
    if "tokenizer" in inspect.signature(function).parameters:
        arguments["tokenizer"] = StandIn(_words(kinds))
    if isinstance(made, nn.Module):
        made.train()
    wrong = mismatch(copy.deepcopy(made)(**arguments), expected)
    if wrong and by != 1:
        raise CannotMakeError(f"a smaller copy of it {wrong}")  # which may be because it is smaller
    return Trial(wrong=wrong) if wrong else Trial(broken=tuple(probe(kind, made, arguments)))


@contextmanager
def _apart() -> Iterator[None]:
    """Nothing of a trial is seen outside: no draw, no gradient, no warning; and no setting of the moment reaches it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with (
            generators_kept(),
            warnings.catch_warnings(),
            torch.inference_mode(mode=False),
            torch.enable_grad(),
            torch.device("cpu"),
            torch.autocast("cpu", enabled=False),
        ):
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            yield
    finally:
        torch.set_default_dtype(before)


# --- arguments


def _type(arg: Arg, plan: Plan, kind: Kind, name: str) -> Any:
    if isinstance(arg, Constant):
        return arg.value
    if isinstance(arg, ParamRef):
        return ScalarType()
    calls = plan.by_id()
    types = [calls[ref.call].type.at(ref.path) for ref in refs_in(arg)]
    port = kind.ports.get(name)
    return types[0] if isinstance(arg, Ref) and not (port and port.several) else tuple(types)


def _is_type(given: Any) -> bool:
    return isinstance(given, ValueType) or (isinstance(given, tuple) and all(isinstance(x, ValueType) for x in given))


def _argument(given: Any, maker: Maker) -> Any:
    if isinstance(given, ScalarType):
        return 0.5  # a param's value
    if isinstance(given, ValueType):
        return maker.value(given)
    return [maker.value(item) for item in given] if _is_type(given) else given


def _words(ports: Ports) -> int:
    texts = [value for value in ports.values() if isinstance(value, TextType)]
    return (texts[0].vocab_size if texts else None) or WORDS


def _written(config: Any) -> str:
    return "" if config is None else json.dumps(config.model_dump(mode="json"), sort_keys=True, default=repr)


def _form(ports: Ports) -> str:
    """Describe what tells values apart for a component: kinds, sizes and parts; not their rows and what they read."""

    def form(given: Any) -> Any:
        if isinstance(given, tuple):
            return [form(item) for item in given]
        if not isinstance(given, ValueType):
            return repr(given)
        parts = [(part.name, part.length, part.cls, part.text is None) for part in getattr(given, "parts", ())]
        inner = {name: form(member) for name, member in given.members().items()}
        return [given.kind, given.sizes(), given.rows.gathered, parts, inner, getattr(given, "over_positions", None)]

    return json.dumps({name: form(given) for name, given in ports.items()}, sort_keys=True)
