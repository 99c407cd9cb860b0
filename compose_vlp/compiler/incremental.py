"""Generation: splitting a plan into what runs once, what runs on the first words, and what at every word after."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from compose_vlp.blueprint.inputs import TextInput
from compose_vlp.compiler.compile import Compiled, compile_plan, functions_of, open_ports_of, tokenizers_of
from compose_vlp.compiler.source import Program, load_program, write_program
from compose_vlp.graph.checking.growing import Growing, components_of, split, steps_of
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Call, Plan, Ref

LOGITS = "logits"


@dataclass(frozen=True)
class Prepared:
    """A text's logits in two programs: `prepare(root, batch, step)` gives the values that do not depend on the words,
    `words` takes them, and the words, and gives `{"logits": Logits}`."""

    output: str
    over: str
    whole: Compiled  # the same without splitting
    prepare: Program
    words: Program
    tables: frozenset[str]  # of the inputs and values handed on those that are a table's, not one for each row
    params: Mapping[str, float]  # values of params that the programs read
    source: str


@dataclass(frozen=True)
class Incremental:
    """Three programs, each of which is handed what the ones before it gave, by call as `@call`.

    `prepare(root, batch, step)` gives the values that do not depend on the words to come. `begin` takes the first
    words, and gives `{"logits": Logits}` of them and what is known from then on. `advance` takes the words that come
    next, and gives their logits.
    """

    output: str
    over: str
    whole: Compiled  # the same without splitting, for recomputing
    prepare: Program
    begin: Program
    advance: Program
    tables: frozenset[str]  # of the inputs and values handed on those that are a table's, not one for each row
    cached: frozenset[str]  # calls that keep keys and values
    params: Mapping[str, float]  # values of params that the programs read
    source: str


def compile_incremental(blueprint: CheckedBlueprint, output: str) -> Incremental:
    """The programs of a `generate` output."""
    whole, growing = _split(blueprint, output)
    steps = steps_of(growing, components_of(blueprint.components, blueprint.functions))
    cached = steps.cached
    writer = _Writer(blueprint, whole.plan, output, growing)
    first, later = (
        [*growing.begun, *growing.grows],
        [_last_alone(call) if call.id in steps.joins else call for call in growing.grows],
    )
    begun = writer.handed_on(later, growing.begun)
    prepare = writer.write("prepare", "once", growing.fixed, writer.handed_on(first, growing.fixed))
    begin = writer.write("begin", "of the first words", first, {**whole.plan.results, **begun}, cached)
    advance = writer.write("advance", "for every word after them", later, whole.plan.results, cached)
    return Incremental(
        output=output,
        over=over_of(blueprint, output),
        whole=whole,
        prepare=writer.load(prepare, "prepare"),
        begin=writer.load(begin, "begin"),
        advance=writer.load(advance, "advance"),
        tables=_tables(blueprint, whole.plan),
        cached=cached,
        params=blueprint.constants_and_starts(),
        source=f"{prepare}\n\n{begin}\n\n{advance}",
    )


def compile_prepared(blueprint: CheckedBlueprint, output: str) -> Prepared:
    """The programs of a `rank` output, which reads whole texts."""
    whole, growing = _split(blueprint, output)
    writer = _Writer(blueprint, whole.plan, output, growing)
    calls = [*growing.begun, *growing.grows]
    prepare = writer.write("prepare", "once", growing.fixed, writer.handed_on(calls, growing.fixed))
    words = writer.write("words", "of whole texts", calls, whole.plan.results)
    return Prepared(
        output=output,
        over=over_of(blueprint, output),
        whole=whole,
        prepare=writer.load(prepare, "prepare"),
        words=writer.load(words, "words"),
        tables=_tables(blueprint, whole.plan),
        params=blueprint.constants_and_starts(),
        source=f"{prepare}\n\n{words}",
    )


def over_of(blueprint: CheckedBlueprint, output: str) -> str:
    """The input whose words an output writes or judges."""
    over = blueprint.outputs[output].over
    assert over is not None, f"{output} is over no text"
    return over


def _split(blueprint: CheckedBlueprint, output: str) -> tuple[Compiled, Growing]:
    results = {LOGITS: blueprint.outputs[output].ref}
    # a merged call would need what comes once and what comes with every word at the same time
    whole = compile_plan(blueprint, output, results, trainable=lambda _: False, without=["batch", "last_layer"])
    return whole, split(whole.plan.calls, over_of(blueprint, output))


def _last_alone(call: Call) -> Call:
    """A join after the first words: what stands before them has come already."""
    return dataclasses.replace(call, args=call.args[-1:])


def _tables(blueprint: CheckedBlueprint, plan: Plan) -> frozenset[str]:
    """Inputs, and calls as `@call`, whose rows are a table's lines."""
    inputs = blueprint.inputs
    bases = {name for name, entry in inputs.items() if isinstance(entry, TextInput) and entry.table is not None}
    of_table = [call for call in plan.calls if call.type.rows.base in bases]
    return frozenset({*bases, *(f"{name}.owner" for name in bases), *(_name(call.id) for call in of_table)})


@dataclass(frozen=True)
class _Writer:
    """Writes parts of a plan as programs."""

    blueprint: CheckedBlueprint
    plan: Plan
    output: str
    growing: Growing

    def handed_on(self, readers: Iterable[Call], among: Iterable[Call]) -> dict[str, Ref]:
        """Of these calls `among` those that `readers` read, by the name that they are handed on by."""
        offered = {call.id for call in among if call.role != "input"}
        return {_name(ref.call): Ref(ref.call) for call in readers for ref in call.refs() if ref.call in offered}

    def write(
        self,
        name: str,
        when: str,
        calls: Iterable[Call],
        results: Mapping[str, Ref],
        cached: frozenset[str] = frozenset(),
    ) -> str:
        """The source of a program of these calls, in the plan's order; what they read of others is handed to it."""
        own = {call.id: call for call in calls if call.role != "input"}
        read = {ref.call for call in own.values() for ref in call.refs()}
        lines = [own.get(call.id) or _handed(call) for call in self.plan.calls if call.id in own or call.id in read]
        plan = dataclasses.replace(self.plan.replace(lines), results=results)
        tokenizers = {
            call: tokenizer for call, tokenizer in tokenizers_of(self.blueprint, self.plan).items() if call in own
        }
        title, open_ports = f"What `{self.output}` computes {when}.", open_ports_of(self.blueprint)
        return write_program(plan, name, title=title, caches=cached, tokenizers=tokenizers, open_ports=open_ports)

    def load(self, source: str, name: str) -> Program:
        """The program of a source."""
        return load_program(source, name, functions_of(self.blueprint, self.plan))


def _name(call: str) -> str:
    return f"@{call}"


def _handed(call: Call) -> Call:
    """A call whose value is an input, or comes from the programs before."""
    if call.role == "input":
        return call
    return dataclasses.replace(call, role="input", target=_name(call.id), args=(), world=None, no_grad=False)
