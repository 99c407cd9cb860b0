"""Generation: splitting a plan into what runs once and what runs at every new word."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass
from typing import Any

from compose_vlp.compiler.compile import Compiled, compile_plan, functions_of, kind_of, tokenizers_of
from compose_vlp.compiler.source import Program, load_program, write_program
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint, downstream
from compose_vlp.graph.plan import Call, Plan, Ref
from compose_vlp.graph.types import Flow


@dataclass(frozen=True)
class Incremental:
    """Two programs: `prepare(root, batch, step)` gives the values that do not depend on the words to come; `advance`
    takes them, and the new words, and gives `{"logits": Logits}` of these words."""

    output: str
    over: str
    whole: Compiled  # the same without splitting, for recomputing
    prepare: Program
    advance: Program
    kept: tuple[str, ...]  # calls whose values `advance` reads from `prepare`
    cached: frozenset[str]  # calls that keep keys and values
    source: str


def compile_incremental(blueprint: CheckedBlueprint, output: str) -> Incremental:
    """The programs of a `generate` output.

    Raises:
        UserError: a call that depends on the words looks beyond its own position and offers no cache.
    """
    entry = blueprint.outputs[output]
    assert entry.over is not None
    # a merged call would need what comes once and what comes with every word at the same time
    whole = compile_plan(blueprint, output, {"logits": entry.ref}, trainable=lambda _: False, without=["batch"])
    later = downstream(whole.plan, _input(whole.plan, entry.over))
    once = [c for c in whole.plan.calls if c.id not in later]
    each = [c for c in whole.plan.calls if c.id in later]
    kept = tuple(dict.fromkeys(ref.call for c in each for ref in c.refs() if ref.call not in later))
    cached = frozenset(c.id for c in each if _needs_cache(blueprint, c))
    before = whole.plan.replace(once)
    before = dataclasses.replace(before, wanted={name: Ref(name) for name in kept})
    handed = [dataclasses.replace(c, role="input", target=f"@{c.id}", args=()) for c in once if c.id in kept]
    after = whole.plan.replace([*handed, *each])
    tokenizers = tokenizers_of(blueprint, whole.plan)
    sources = (
        write_program(before, "prepare", title=f"What `{output}` computes once.", tokenizers=tokenizers),
        write_program(
            after,
            "advance",
            title=f"What `{output}` computes for every new word.",
            caches=cached,
            tokenizers=tokenizers,
        ),
    )
    functions = functions_of(blueprint, whole.plan)
    prepare, advance = (load_program(s, n, functions) for s, n in zip(sources, ("prepare", "advance"), strict=True))
    return Incremental(output, entry.over, whole, prepare, advance, kept, cached, "\n\n".join(sources))


def _input(plan: Plan, name: str) -> str:
    return next(call.id for call in plan.calls if call.role == "input" and call.target == name)


def _needs_cache(blueprint: CheckedBlueprint, call: Call) -> bool:
    kind = kind_of(blueprint, call)
    if kind is None or call.role != "component":
        return False
    if "cache" in inspect.signature(kind.implementation.forward).parameters:
        return True
    config: Any = blueprint.components[call.target].config
    flows = kind.flows(config) if kind.flows else {}
    first = next(iter(kind.ports.values()))
    if flows.get(first.name, first.flow) is not Flow.EACH:
        raise UserError(
            f"`{call.target}` ({kind.name}) looks beyond one position and keeps no cache, so nothing can be generated "
            "through it word by word",
            span=call.span,
        )
    return False
