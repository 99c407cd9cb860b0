"""Writing a plan as plain Python: one line a call, with its place in the blueprint.

Names that people choose (of components, files, ports...) enter the source as literals, or as identifiers that were made
of them or checked: plain ASCII, no keyword, none twice.
"""

from __future__ import annotations

import builtins
import hashlib
import keyword
import linecache
import math
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from compose_vlp.compiler import program_runtime as support
from compose_vlp.graph.plan import Arg, Call, Constant, ParamRef, Plan, Ref
from compose_vlp.graph.types import RecordType

RESERVED = frozenset({"root", "batch", "step", "m", "losses", "torch", *dir(support), *dir(builtins), *keyword.kwlist})

Program = Callable[..., dict[str, Any]]


class Names:
    """Python names for the calls of a plan and the teachers' worlds: made identifiers, none twice."""

    def __init__(self, calls: Iterable[Call], taken: Iterable[str]) -> None:
        calls = tuple(calls)
        self._of: dict[str, str] = {}
        self._used = {*RESERVED, *taken}
        worlds = dict.fromkeys(call.world for call in calls if call.world is not None)
        self.worlds = {world: self._made(f"m_{world}") for world in worlds}
        self.inputs: dict[str, str] = {}  # call -> name in the batch
        for call in calls:
            if call.role == "input" and not call.target.startswith("@"):
                self.inputs[call.id] = call.target
            self._of[call.id] = self._made(call.id)

    def _made(self, text: str) -> str:
        name = _free(text, self._used)
        self._used.add(name)
        return name

    def __getitem__(self, call: str) -> str:
        return self._of[call]


def write_program(
    plan: Plan,
    name: str,
    *,
    title: str = "",
    caches: frozenset[str] = frozenset(),
    tokenizers: Mapping[str, str] | None = None,
    choices: frozenset[str] = frozenset(),
    open_ports: frozenset[str] = frozenset(),
) -> str:
    """The source of a function `name(root, batch, step)` that gives the plan's wanted values by name.

    Where the plan calls a function of that name, an underscore comes behind it. Calls in `caches` get a cache of their
    own, `step.caches[id]`; those in `tokenizers` (call id -> component) the tokenizer of their text; what those in
    `choices` draw may be handed in; functions in `open_ports` take any names. Teachers run without gradients.
    """
    functions = {_function(call.target) for call in plan.calls if call.role == "function"}
    names = Names(plan.calls, functions)
    lines = [f"def {_free(name, {*functions, *RESERVED})}(root, batch, step):"]
    lines += [f"    {line}" for line in (*_docstring(title), *_prologue(plan, names))]
    inside = False
    plain = {ref.call for ref in _refs(plan) if not ref.path}
    telling = {ref.call for call in plan.calls if call.role == "terms" for ref in call.refs()}
    for call in plan.calls:
        if call.role == "split" and call.target != "0":
            continue  # all pieces come out of the first one's line
        if call.role == "terms":
            continue  # they come out of the line of the call that adds them
        group = _gathered_with(call, plan)
        if group[0] is not call:
            continue  # it is gathered in the first one's line
        if call.role == "input" and call.id in names.inputs and call.id not in plain:
            continue  # only its fields are read, which the batch has beside it
        extra = [f"cache=step.caches[{call.id!r}]"] if call.id in caches else []
        if call.id in (tokenizers or {}):
            extra.append(f"tokenizer=root.tokenizers[{(tokenizers or {})[call.id]!r}]")
        tells = call.id in telling
        written = _expression(
            call, names, extra, named=call.target in open_ports, recorded=call.id in choices, tells=tells
        )
        if len(group) > 1:
            written = f"gather({', '.join(_argument(member.args[0][1], names) for member in group)})"
        without = all(member.no_grad or member.world is not None for member in group)
        if without and not inside:
            lines.append("    with torch.no_grad():")
        inside = without
        indent = "        " if inside else "    "
        lines.append(f"{indent}{', '.join(_results(call, plan, names))} = {written}{_place(call)}")
    results = ", ".join(f"{key!r}: {_reference(ref, names)}" for key, ref in plan.results.items())
    lines.append(f"    return {{{results}}}")
    return "\n".join(lines) + "\n"


def load_program(source: str, name: str, functions: Mapping[str, Any]) -> Program:
    """Run the source and give its function; tracebacks show its lines."""
    file = f"<program {_identifier(name)} {abs(hash(source)):x}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    scope: dict[str, Any] = {**{n: getattr(support, n) for n in support.__all__}, "torch": torch}
    scope |= {_function(target): function for target, function in functions.items()}
    # our own generated text: what a blueprint says enters it as a literal, or as an identifier that was made or checked
    exec(compile(source, file, "exec"), scope)  # noqa: S102
    program: Program = scope[source[len("def ") : source.index("(")]]
    return program


# --- names and texts that people choose


def _identifier(text: str) -> str:
    """The text made an ASCII identifier (or a keyword)."""
    made = re.sub(r"[^A-Za-z0-9_]", "_", text)
    return made if made[:1].isalpha() or made[:1] == "_" else f"_{made}"


def _free(text: str, used: Container[str]) -> str:
    """An identifier made of the text that is not in use (a stage may be called `first`, as a function is)."""
    name = _identifier(text)
    while name in used:
        name += "_"
    return name


def _is_plain(name: str) -> bool:
    """Is a name an ASCII identifier, which Python reads as it stands?"""
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


def _function(target: str) -> str:
    """Name a function in a program: by its own name, or by another where Python or the program has that name."""
    if _is_plain(target) and target not in RESERVED:
        return target
    return f"{_identifier(target)}_{hashlib.sha256(target.encode()).hexdigest()[:8]}"


def _attribute(home: str, *path: str) -> str:
    """`home.name`, for each name of the path; what is no plain name is asked for by a literal."""
    for name in path:
        home = f"{home}.{name}" if _is_plain(name) else f"getattr({home}, {name!r})"
    return home


def _docstring(title: str) -> list[str]:
    if not title:
        return []
    plain = title.isascii() and title.isprintable() and not {'"', "\\"} & set(title)
    return [f'"""{title}"""' if plain else ascii(title)]


def _comment(text: str) -> str:
    """A text that stays on its line and shows what it holds."""
    return text if text.isascii() and text.isprintable() else ascii(text)


# --- lines


def _prologue(plan: Plan, names: Names) -> list[str]:
    lines = []
    if any(c.role in ("component", "auxiliary") and c.world is None for c in plan.calls):
        lines.append("m = root.student")
    lines += [f"{name} = root.worlds[{world!r}]" for world, name in names.worlds.items()]
    if any(call.role in ("loss", "select") for call in plan.calls):
        lines.append("losses = root.losses_by_name")
    return lines


def _expression(call: Call, names: Names, extra: list[str], *, named: bool, recorded: bool, tells: bool) -> str:
    if call.role == "input":
        return f"batch[{call.target!r}]"
    args = dict(call.args)
    if call.role == "read":
        x = _argument(args["x"], names)
        return f"{x}.{call.target}" if call.target in ("cls", "tokens") else f"{x}.part({call.target!r})"
    if call.role == "index":
        return f"take({_argument(args['x'], names)}, {_argument(args['index'], names)})"
    if call.role == "select":
        return f"select({_attribute('losses', call.target)}, {_argument(args['x'], names)})"
    if call.role == "stack":
        return f"stack({_several(args['x'], names)})"
    if call.role == "picks":
        return f"picks({_argument(args['x'], names)}, {_several(args['indices'], names)})"
    if call.role == "split":
        return f"split({_argument(args['x'], names)}, {_argument(args['like'], names)})"
    if call.role == "auxiliary":
        given = ", ".join(_argument(arg, names) for arg in args.values())
        return f"auxiliary({_attribute('m', call.target)}, {given})"
    alone = len(call.args) == 1 and not named and not isinstance(call.type, RecordType)
    written = [_keyword(alone, name, _argument(arg, names)) for name, arg in call.args] + extra
    if call.role == "function":
        return f"{_function(call.target)}({', '.join(written)})"
    home = "losses" if call.role == "loss" else names.worlds[call.world] if call.world else "m"
    called = _attribute(home, call.target)
    if call.role == "keys":
        return f"{called}.keys_values({_argument(args['x'], names)})"
    if tells:  # `m.vision(image)` as `with_terms(m.vision, image)`
        return f"with_terms({', '.join([called, *written])})"
    # `m.masker(caption)` as `step.choice('masked', m.masker, caption)`
    first = f"step.choice({call.id!r}, {called}, " if recorded else f"{called}("
    return f"{first}{', '.join(written)})"


def _results(call: Call, plan: Plan, names: Names) -> list[str]:
    """The names that a line gives values to: all pieces of what is split, a result and its terms, one otherwise."""
    if call.together:
        return [names[member.id] for member in _gathered_with(call, plan)]
    if call.role != "split":
        terms = [other.id for other in plan.calls if other.role == "terms" and other.arg("x") == Ref(call.id)]
        return [names[name] for name in (call.id, *terms)]
    return [names[piece.id] for piece in plan.calls if piece.role == "split" and piece.arg("x") == call.arg("x")]


def _gathered_with(call: Call, plan: Plan) -> list[Call]:
    """The calls that gather their rows together with this one's; mostly itself alone."""
    return [other for other in plan.calls if other.together == call.together] if call.together else [call]


def _refs(plan: Plan) -> Iterator[Ref]:
    yield from plan.results.values()
    for call in plan.calls:
        yield from call.refs()


def _several(arg: Arg | None, names: Names) -> str:
    """Arguments one after the other, None for what is left out."""
    assert isinstance(arg, tuple)
    return ", ".join(_argument(item, names) if item != () else "None" for item in arg)


def _keyword(alone: bool, name: str, argument: str) -> str:
    if alone and not argument.startswith("["):
        return argument
    return f"{name}={argument}" if _is_plain(name) else f"**{{{name!r}: {argument}}}"


def _argument(arg: Arg, names: Names) -> str:
    if isinstance(arg, Ref):
        return _reference(arg, names)
    if isinstance(arg, Constant):
        return _literal(arg.value)
    if isinstance(arg, ParamRef):
        return f"step.params[{arg.name!r}]"
    return f"[{', '.join(_argument(item, names) for item in arg)}]"


def _reference(ref: Ref, names: Names) -> str:
    if ref.path and ref.call in names.inputs:  # `answers.owner`: data hands it over beside the texts
        return f"batch[{'.'.join((names.inputs[ref.call], *ref.path))!r}]"
    return _attribute(names[ref.call], *ref.path)


def _literal(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    return repr(value)


def _place(call: Call) -> str:
    return f"  # {_comment(Path(call.span.file).name)}:{call.span.line}" if call.span else ""
