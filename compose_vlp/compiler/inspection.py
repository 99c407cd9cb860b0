"""A program that gives every value on its way, to look for the first that is wrong."""

from __future__ import annotations

import dataclasses

from compose_vlp.compiler.compile import Compiled, choices_of, functions_of, open_ports_of, tokenizers_of
from compose_vlp.compiler.source import Program, load_program, write_program
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Call, Ref


def compile_inspection(blueprint: CheckedBlueprint, compiled: Compiled) -> tuple[Program, tuple[Call, ...]]:
    """The same calls in the same order, whose values all come back under their ids; and these calls."""
    calls = tuple(call for call in compiled.plan.calls if call.role != "input")
    plan = dataclasses.replace(compiled.plan, results={call.id: Ref(call.id) for call in calls})
    source = write_program(
        plan,
        "inspect",
        tokenizers=tokenizers_of(blueprint, plan),
        choices=choices_of(blueprint, plan),
        open_ports=open_ports_of(blueprint),
    )
    return load_program(source, "inspect", functions_of(blueprint, plan)), calls
