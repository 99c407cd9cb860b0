"""Whether a file has the shape of a blueprint: known sections, each in its form, names that are names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from compose_vlp.blueprint.document import DRAFT, NAME, NAMESPACE, RESERVED, SECTIONS
from compose_vlp.blueprint.merge import OUTPUT_FORMS
from compose_vlp.blueprint.nodes import Entry, Items, Mapping, Node, Scalar
from compose_vlp.blueprint.syntax import unseparated, unseparated_problem
from compose_vlp.errors import SURE, Problem, did_you_mean, nearest
from compose_vlp.readable import with_article

_FORMS = {
    "text": "one value",
    "list": "a list: `[...]`, or lines that begin with `- `",
    "mapping": "a mapping: `{key: value}`",
    "entries": "a mapping of named entries",
    "names": "one value or a list",
    "kind": "one value, or a mapping: `{use: NAME}`",
}


MAX_ENTRIES = 2000
"""Entries of a section; no person writes as many, and each may be held against each."""


@dataclass(frozen=True)
class Structure:
    """The part of a file that can be merged, and every mistake in its shape.

    `lost` are the names of entries that were left out, whose readers are not to blame. `clear` is false where more is
    missing than these, so that looking further would only repeat the problems in other words.
    """

    root: Mapping
    problems: tuple[Problem, ...] = ()
    lost: frozenset[str] = frozenset()
    clear: bool = True


def check_structure(root: Mapping) -> Structure:
    """The sections of a file that are known and in their form; what is wrong is left out.

    A section whose name is misspelt is read as the one that is meant, so that it hides no other mistake.
    """
    problems: list[Problem] = []
    kept: list[Entry] = []
    lost: set[str] = set()
    clear = True
    for written in root:
        entry = _meant(written, root)
        if entry is not written:
            problems.append(_unknown(written))
        if entry.name.startswith(DRAFT):
            kept.append(entry)
            continue
        mistakes = list(_section(entry))
        problems += mistakes
        if not mistakes:
            kept.append(entry)
            continue
        named = entry.name in SECTIONS and SECTIONS[entry.name].form == "entries"
        sound = [child for child in _entries(entry)[:MAX_ENTRIES] if named and not any(_entry(entry.name, child))]
        lost |= {child.name for child in _entries(entry)} - {child.name for child in sound}
        if named:
            clear &= isinstance(entry.value, Mapping)
            if isinstance(entry.value, Mapping):
                kept.append(Entry(entry.key, Mapping(tuple(sound), entry.value.span)))
        elif entry.name not in SECTIONS:
            clear &= "extends" in root or isinstance(entry.value, Mapping)  # a parent may be meant
        else:
            clear &= entry.name not in ("extends", "drop")
    return Structure(Mapping(tuple(kept), root.span), tuple(problems), frozenset(lost), clear)


def _entries(section: Entry) -> tuple[Entry, ...]:
    return section.value.entries if isinstance(section.value, Mapping) else ()


def _meant(section: Entry, root: Mapping) -> Entry:
    """A section of an unknown name as the one that it stands for: the nearest, where its form fits."""
    if section.name in SECTIONS or section.name.startswith(DRAFT) or section.name.lower() in _ELSEWHERE:
        return section
    for name in nearest(section.name, SECTIONS, 1, cutoff=SURE):
        empty = isinstance(section.value, Scalar) and section.value.is_empty
        if name not in root and not empty and _has_form(section.value, SECTIONS[name].form):
            return replace(section, key=replace(section.key, text=name))
    return section


def _unknown(section: Entry) -> Problem:
    if section.name.lower() in _ELSEWHERE:
        hints: tuple[str, ...] = (_ELSEWHERE[section.name.lower()],)
    else:
        hints = did_you_mean(section.name, SECTIONS) or (f"sections: {', '.join(SECTIONS)}; `{DRAFT}anything` is free",)
    return Problem(f"`{section.name}` is not a section of a blueprint", section.key.span, hints)


_ELSEWHERE = {
    "lr": "the learning rate is the optimizer's: `optimizer: {lr: ...}`, or `params: {lr: ...}` where that says `$lr`",
    "learning_rate": "the learning rate is the optimizer's: `optimizer: {lr: ...}`",
    "weight_decay": "it is the optimizer's: `optimizer: {weight_decay: ...}`",
    "scheduler": "a rate's schedule is its value: `optimizer: {lr: {cosine: [1e-3, 0], warmup: 100 steps}}`",
    "schedule": "a rate's schedule is its value: `optimizer: {lr: {cosine: [1e-3, 0], warmup: 100 steps}}`",
    "warmup": "it belongs to a rate's schedule: `optimizer: {lr: {cosine: [1e-3, 0], warmup: 100 steps}}`",
    "epochs": "write `length: 10 epochs`",
    "steps": "write `length: 1000 steps`",
    "max_steps": "write `length: 1000 steps`",
    "batch_size": "it is called `batch`",
    "seed": "it belongs to a run, not to a blueprint: `compose-vlp train ... --seed 1`",
    "device": "it belongs to a run, not to a blueprint: `compose-vlp train ... --device cuda`",
    "model": "a model's parts stand in `components`, and how they are called in `graph`",
    "models": "a model's parts stand in `components`, and how they are called in `graph`",
    "modules": "a model's parts stand in `components`",
    "layers": "a model's parts stand in `components`",
    "encoders": "a model's parts stand in `components`",
    "dataset": "sources of records stand in `data`",
    "datasets": "sources of records stand in `data`",
    "tokenizer": "a tokenizer stands in `components`, and an input of type text names it",
    "tokenizers": "a tokenizer stands in `components`, and an input of type text names it",
    "forward": "what is computed stands in `graph`: one expression a name",
    "objectives": "what training lowers stands in `losses`",
    "training": "what is trained, and for how long, stands in `stages`",
    "imports": "a blueprint begins from others with `extends`",
    "include": "a blueprint begins from others with `extends`",
    "defaults": "a blueprint begins from others with `extends`",
    "base": "a blueprint begins from others with `extends`",
    "sweep": "this is a sweep, and no blueprint: `compose-vlp sweep FILE`",
    "vary": "a sweep says what is varied: `compose-vlp sweep FILE`",
    "dtype": "it is called `precision`: fp32 or bf16",
    "strategy": "it is called `distribute`: ddp, fsdp or hybrid",
    "fsdp": "it is a value: `distribute: fsdp`",
    "checkpointing": "it is called `recompute`: names of components, or an amount of memory",
    "activation_checkpointing": "it is called `recompute`: names of components, or an amount of memory",
    "gradient_checkpointing": "it is called `recompute`: names of components, or an amount of memory",
    "ddp": "it is a value: `distribute: ddp`",
}
"""Where other frameworks' words have their place here."""


def _section(entry: Entry) -> Iterator[Problem]:
    name, value = entry.name, entry.value
    if name not in SECTIONS:
        yield _unknown(entry)
        return
    form = SECTIONS[name].form
    if isinstance(value, Scalar) and value.is_empty:
        yield Problem(f"`{name}` is empty", entry.key.span, (f"it holds {_FORMS[form]}",))
    elif not _has_form(value, form):
        yield _misformed(name, form, value)
    elif form == "entries":
        assert isinstance(value, Mapping)
        if len(value) > MAX_ENTRIES:
            message = f"{len(value):,} entries of `{name}`; {MAX_ENTRIES:,} are the most"
            yield Problem(message, value.entries[MAX_ENTRIES].key.span)
            return
        for child in value:
            yield from _entry(name, child)
    else:
        yield from empty_values(value)


def _misformed(name: str, form: str, value: Node) -> Problem:
    """A section of another form, with how it is meant."""
    if form == "entries" and isinstance(value, Scalar) and (line := unseparated(value.text)) is not None:
        return unseparated_problem(line, value.span)
    hints: tuple[str, ...] = ()
    if form in ("entries", "mapping") and isinstance(value, Items):
        hints = ("leave out the `- ` before each line",)
    elif form == "entries" and isinstance(value, Scalar):
        hints = (f"`{name}: {{NAME: {_VALUES.get(name, '{key: value}')}, ...}}`",)
    elif name == "optimizer" and isinstance(value, Scalar):
        hints = (f"`optimizer: {{use: {value.text}, lr: ...}}`",)
    elif name == "start" and isinstance(value, Scalar):
        hints = (f"`start: [{{from: {value.text}}}]`",)
    elif form == "list" and isinstance(value, Mapping):
        hints = ("each item begins with `- `",)
    return Problem(f"`{name}` holds {_FORMS[form]}", value.span, hints)


def _has_form(value: Node, form: str) -> bool:
    if form == "text":
        return isinstance(value, Scalar)
    if form == "list":
        return isinstance(value, Items)
    if form == "names":
        return isinstance(value, Scalar) or (isinstance(value, Items) and all(isinstance(v, Scalar) for v in value))
    return isinstance(value, Mapping) or (form == "kind" and isinstance(value, Scalar))


def _entry(section: str, entry: Entry) -> Iterator[Problem]:
    """One entry of a section of entries."""
    name, value, named = entry.name, entry.value, SECTIONS[section].named
    if not NAME.match(name):
        if not entry.key.is_broken:
            message = f"`{name}` is no name for {with_article(named)}"
            yield Problem(message, entry.key.span, ("a name is a letter, then letters, digits and `_`",))
        return
    if section in NAMESPACE and name in RESERVED:
        yield Problem(f"`{name}` is reserved", entry.key.span, (f"call the {named} otherwise",))
    if isinstance(value, Scalar):
        yield from _scalar_entry(section, entry, value)
    elif section == "graph":
        yield Problem(f"graph entry `{name}` holds one expression", value.span, _not_graph(name, value))
    elif isinstance(value, Items) and section == "outputs":
        yield Problem(f"output `{name}` is one value", value.span, ("each value is an output of its own",))
    elif isinstance(value, Items) and section != "params":
        yield Problem(f"{named} `{name}` holds a mapping: `{{key: value}}`", value.span, _as_mapping(section, value))
    else:
        yield from empty_values(value)


def _not_graph(name: str, value: Node) -> tuple[str, ...]:
    """Say where a thing in `graph` that is no entry belongs."""
    if isinstance(value, Items):
        return ("several values are added, averaged, joined or concatenated by functions: `concat([a, b])`",)
    assert isinstance(value, Mapping)
    if "use" in value:
        return (f"what has a kind stands in `components`, or `losses`; `graph` calls it: `{name}(...)`",)
    if any(form in value for form in OUTPUT_FORMS):
        return ("this is an output: it stands in `outputs`",)
    if "type" in value:
        return ("this is an input: it stands in `inputs`",)
    return ("an expression calls: `normalize(image_proj(vision(image).cls))`",)


_VALUES = {"graph": "EXPRESSION", "outputs": "EXPRESSION", "params": "VALUE"}

_EXAMPLES = {
    "components": "use: {}",
    "inputs": "type: {}",
    "losses": "use: {}",
    "teachers": "decay: {}",
}


def _as_mapping(section: str, value: Node) -> tuple[str, ...]:
    """How an entry is written that is a mapping."""
    if isinstance(value, Items):
        return ("leave out the `- ` before each line",) if all(isinstance(item, Mapping) for item in value) else ()
    assert isinstance(value, Scalar)
    if (line := unseparated(value.text)) is not None:
        return (f"a line is `key: value`; here: `{line.key}: {line.value}`",)
    if section == "data":
        word = value.text
        ending = word.rpartition(".")[2] if "." in word else ""
        return (f"`{{use: {ending or word}, path: {word}}}`" if ending else f"`{{use: {word}}}`",)
    return (f"`{{{_EXAMPLES[section].format(value.text)}}}`",) if section in _EXAMPLES else ()


def _scalar_entry(section: str, entry: Entry, value: Scalar) -> Iterator[Problem]:
    named = SECTIONS[section].named
    if value.is_empty:
        yield Problem(f"{named} `{entry.name}` has no value", entry.key.span)
    elif section in ("graph", "outputs"):
        if not value.is_exact:
            hints = ("write it on one line, or as a `|` block, so that errors can point into it",)
            yield Problem("an expression over several lines has no exact places", value.span, hints)
    elif section != "params" and not value.is_broken:
        message = f"{named} `{entry.name}` holds a mapping: `{{key: value}}`"
        yield Problem(message, value.span, _as_mapping(section, value))


def empty_values(value: Node) -> Iterator[Problem]:
    """Fields below `value` that are written without a value."""
    if isinstance(value, Mapping):
        for entry in value:
            if isinstance(entry.value, Scalar) and entry.value.is_empty:
                line = unseparated(entry.name)
                if line is None:
                    yield Problem(f"`{entry.name}` has no value", entry.key.span)
                else:
                    yield unseparated_problem(line, entry.key.span)
            else:
                yield from empty_values(entry.value)
    elif isinstance(value, Items):
        for item in value:
            if isinstance(item, Scalar) and item.is_empty:
                yield Problem("an item of this list is empty", item.span)
            else:
                yield from empty_values(item)
