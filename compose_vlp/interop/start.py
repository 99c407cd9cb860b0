"""Starting from pretrained weights: the ordered list `start` of a blueprint, done to a model, and told in full."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from compose_vlp.blueprint.nodes import Items
from compose_vlp.blueprint.patterns import matches
from compose_vlp.compiler.adapting import of_adapters
from compose_vlp.compiler.tables import tables_of
from compose_vlp.components.layers.vocabulary import VocabularyHead
from compose_vlp.errors import Problem, Span, UserError, did_you_mean
from compose_vlp.interop import (
    albef,
    beit,
    beit3,
    blip,
    open_clip_clip,
    open_clip_coca,
    transformers_blip,
    transformers_clip,
    vlmo,
    vqkd,
)
from compose_vlp.interop.format import Filled, Importer, by_itself
from compose_vlp.interop.maps import ours
from compose_vlp.interop.maps.name_map import Converted, choose_map
from compose_vlp.interop.maps.positions import first_positions, fit_positions
from compose_vlp.interop.start_report import SHOWN, Started, some, stem
from compose_vlp.interop.weight_files import read_weights
from compose_vlp.interop.weights import teachers_of
from compose_vlp.readable import several
from compose_vlp.values.tables import ImageTable, Table, TextTable, before_patches, resize_table

if TYPE_CHECKING:
    from compose_vlp.blueprint.sections import Start
    from compose_vlp.compiler.model import Model
    from compose_vlp.graph.graph import CheckedBlueprint

WHOLE: Mapping[str, Importer] = {
    "albef": by_itself(albef.import_state),
    "beit": beit.import_state,
    "beit3": beit3.import_state,
    "blip": by_itself(blip.import_state),
    "open_clip_clip": by_itself(open_clip_clip.import_state),
    "open_clip_coca": by_itself(open_clip_coca.import_state),
    "transformers_blip": by_itself(transformers_blip.import_state),
    "transformers_clip": by_itself(transformers_clip.import_state),
    "vlmo": vlmo.import_state,
    "vqkd": by_itself(vqkd.import_state),
}
"""Formats of whole models, and what gives their tensors our names."""

HOLDERS = ("model.", "net.", "network.", "backbone.")
"""Names under which training loops hold a model."""

PLAIN_BICUBIC = frozenset({"albef", "beit3", "blip", "transformers_blip", "transformers_clip", "vlmo", "beit"})
"""Formats whose own code resizes positions without antialiasing."""


@dataclass(frozen=True)
class Component:
    """A component to fill: its module, the name of its kind, the path of its token table where it has one, and its
    tables of positions.

    One of a teacher's may stay empty, and is meant only by patterns that begin with the teacher's name. A `spare` one,
    which nothing calls, may stay empty too.
    """

    module: nn.Module
    kind: str
    embedding: str | None = None
    teacher: str | None = None
    spare: bool = False
    tables: Mapping[str, Table] = field(default_factory=dict)


def initialiser(blueprint: CheckedBlueprint, note: Callable[[str], None]) -> Callable[[Model], None]:
    """Give a function that fills a fresh model as the blueprint's `start` says, and tells `note` about it."""

    def initialise(model: Model) -> None:
        if blueprint.start:
            written = blueprint.document.root.get("start")
            places = [item.span for item in written] if isinstance(written, Items) else []
            report = start(components_of(blueprint, model), blueprint.start, places)
            for name, teacher in teachers_of(model).items():
                if any(filled.startswith(f"{name}.") for filled in report.filled):
                    teacher.mark_started()
            for line in report.lines():
                note(line)

    return initialise


def components_of(blueprint: CheckedBlueprint, model: Model) -> dict[str, Component]:
    """The components of a model, as `start` fills them, and losses with weights, `losses.NAME`; a teacher's under its
    name, `momentum.vision`."""
    homes: list[tuple[str | None, nn.Module]] = [(None, model.components), *teachers_of(model).items()]
    components = {}
    for teacher, home in homes:
        for name, module in home.named_children():
            part = blueprint.components[name]
            kind, tables = part.kind, tables_of(part)
            full = f"{teacher}.{name}" if teacher else name
            spare = name in blueprint.unread_components
            components[full] = Component(module, kind.name, kind.parts.get("embedding"), teacher, spare, tables)
    losses = {name: loss for name, loss in model.losses.named_children() if loss.state_dict()}
    return components | {
        f"losses.{name}": Component(loss, blueprint.losses[name].kind.name) for name, loss in losses.items()
    }


def start(components: Mapping[str, Component], items: Sequence[Start], places: Sequence[Span] = ()) -> Started:
    """Fill parameters from files, in the list's order; the first item that has a parameter's weight gives it.

    `places` are those of the items, for messages.

    Raises:
        UserError: a file that cannot be read, is of no known format or has weights of another shape; a pattern that
            names nothing; a weight that no item gave and no `new` names.
    """
    work = _Work(components)
    for number, item in enumerate(items):
        try:
            work.do(item)
        except UserError as error:
            place = places[number] if places else None
            error.problems = tuple(
                replace(problem, span=problem.span or place, hints=(*problem.hints, *_in_file(item, problem)))
                for problem in error.problems
            )
            raise
    work.finish()
    return work.report


class _File(NamedTuple):
    """A file of weights, and the key in it."""

    path: str
    inside: str | None

    def read(self) -> dict[str, Tensor]:
        """Its tensors."""
        return read_weights(self.path, self.inside)

    def __str__(self) -> str:
        return f"{self.path} ({self.inside})" if self.inside else self.path


class _Work:
    """The parameters that still wait for a weight, and what became of the others."""

    def __init__(self, components: Mapping[str, Component]) -> None:
        self.components = components
        self.report = Started()
        self.tensors: dict[str, Tensor] = {}
        self.teacher_of: dict[str, str] = {}  # weights of teachers
        for name, component in components.items():
            for path, tensor in component.module.state_dict(keep_vars=True).items():
                self.tensors[f"{name}.{path}"] = tensor
                if component.teacher:
                    self.teacher_of[f"{name}.{path}"] = component.teacher
        self.done: set[int] = set()  # tensors, since a shared one has several names
        self.adapters = frozenset(
            f"{n}.{path}" for n, component in components.items() for path in of_adapters(component.module)
        )

    def do(self, item: Start) -> None:
        """Do what one item of the list says."""
        if item.new is not None:
            self.leave_new(item.new)
        elif item.to is None or item.form in WHOLE:
            self.fill_all(_File(item.origin or "", item.inside), item.form, item.to or ("**",), item.of)
        else:
            self.fill(_File(item.origin or "", item.inside), item.form, item.to, item.of)

    def waiting(self) -> list[str]:
        return [name for name, tensor in self.tensors.items() if id(tensor) not in self.done]

    def leave_new(self, patterns: Iterable[str]) -> None:
        """Parameters that these patterns name keep their fresh weights."""
        for pattern in patterns:
            self._check_pattern(pattern, "new")
            for name in self.waiting():
                if self._means(pattern, name):
                    self.done.add(id(self.tensors[name]))
                    self.report.new.append(name)

    def fill(self, origin: _File, form: str | None, patterns: Sequence[str], of: str | None) -> None:
        """Parameters that these patterns name, component by component; `of` is the file's name of it."""
        file, state, used = str(origin), origin.read(), set[str]()
        for name, allowed in self._allowed(patterns).items():
            component, below = self.components[name], _named_below(state, of or name)
            if component.kind == "multiway_transformer" and form is None:
                beit.check_whole(state, name)
            _check_of(of, below, state, file)
            # Without `of` nobody said where they stand: below our name, or as a file of this component alone.
            spellings = (below,) if of else (below, *_spellings(state))
            chosen, named = choose_map(form, component.kind, spellings, component.module, f"{file} for `{name}`")
            converted = chosen.convert({bare: state[n] for bare, n in named.items()}, component.module)
            if chosen is ours.MAP:  # other formats fit what they rename
                converted = _fitted(converted, component, antialias=True)
            used |= {named[bare] for bare in self._take(converted, name, file, allowed)}
        self._left(file, state, used)

    def fill_all(self, origin: _File, form: str | None, patterns: Sequence[str], of: str | None) -> None:
        """A file of a whole model, in our names or in those of a whole model's format."""
        file, state, used = str(origin), origin.read(), set[str]()
        if not any(_named_below(state, name) for name in self.components):
            state = {name: state[original] for name, original in next(_spellings(state)).items()}
        left: tuple[str, ...] = ()
        if form is not None and form in WHOLE:
            state, left = WHOLE[form](state, self._filled(patterns))
        elif form not in (None, "ours"):
            raise UserError(f"`start`: a file of format {form!r} fills one component: say which, by `to`")
        for name, allowed in self._allowed(patterns).items():
            component, named = self.components[name], _named_below(state, of or name)
            _check_of(of, named, state, file)
            converted = ours.convert({bare: state[n] for bare, n in named.items()}, component.module)
            fitted = _fitted(converted, component, antialias=form not in PLAIN_BICUBIC)
            used |= {named[bare] for bare in self._take(fitted, name, file, allowed)}
        if not used:
            raise UserError(
                f"`start`: {file} has no weight of this model by our names",
                hints=[
                    f"it has: {some(list(state))}",
                    "a file of another format fills one component: say which, by `to`",
                ],
            )
        self._left(file, (*state, *left), used)

    def _filled(self, patterns: Sequence[str]) -> Filled:
        """The model as an importer sees it."""
        tables = {
            f"{name}.{path}": t for name, component in self.components.items() for path, t in component.tables.items()
        }
        own = {name: tensor for name, tensor in self.tensors.items() if name not in self.adapters}
        return Filled(own, tables, frozenset[str]().union(*self._allowed(patterns).values()))

    def _allowed(self, patterns: Sequence[str]) -> dict[str, frozenset[str]]:
        """The parameters that these patterns name, by component; `**` is every one, a teacher's too."""
        for pattern in patterns:
            self._check_pattern(pattern, "to")
        by_component = {}
        for name in self.components:
            mine = [n for n in self.tensors if n.startswith(f"{name}.")]
            every = patterns == ("**",)
            by_component[name] = frozenset(
                n for n in mine if every or any(self._means(pattern, n) for pattern in patterns)
            )
        return {name: allowed for name, allowed in by_component.items() if allowed}

    def _left(self, file: str, names: Iterable[str], used: set[str]) -> None:
        """Note what of a file no weight came from, by this item or one before it."""
        before = self.report.unused.get(file, tuple(names))
        self.report.unused[file] = tuple(name for name in before if name not in used)

    def _take(self, converted: Converted, name: str, file: str, allowed: frozenset[str]) -> set[str]:
        """Fill what still waits and is allowed; gives the names in the file that were used."""
        wrong, used = list[str](), set[str]()
        by_word = {id(self.tensors.get(f"{name}.{path}")) for path in _by_word(self.components[name])}
        self.report.notes += [f"{name}.{note}" for note in converted.notes]
        for path, tensor in converted.tensors.items():
            full = f"{name}.{path}"
            here = self.tensors.get(full)
            if here is None or full not in allowed:
                continue
            # Counted as used even where an earlier item gave the weight: it is known here, so it is not left over.
            used.update(converted.sources[path])
            if id(here) in self.done:
                continue
            # A vocabulary grows at its end, so the file's rows keep their words; any other shape is a mistake.
            if id(here) in by_word and _grows(here, tensor):
                self.report.notes.append(f"{full}: {len(here) - len(tensor)} tokens more than in {file} start anew")
                here = here[: len(tensor)]
            if tensor.shape != here.shape:
                wrong.append(f"{full} is {list(here.shape)} here and {list(tensor.shape)} in {file}")
                continue
            if here.is_floating_point() and not tensor.is_floating_point():
                wrong.append(f"{full} is {_type(here)} here and {_type(tensor)} in {file}")
                continue
            with torch.no_grad():
                here.copy_(tensor)
            self.done.add(id(self.tensors[full]))
            self.report.filled[full] = file
        if wrong:
            unlike = "has another shape or type" if len(wrong) == 1 else "have other shapes or types"
            message = f"`start`: {several(len(wrong), 'weight')} of `{name}` {unlike} in {file}"
            raise UserError(message, hints=_cut(wrong))
        return used

    def finish(self) -> None:
        """Complain of what got no weight. Counters of a library's (integers) and what nothing calls may stay as they
        are, a teacher that no file has is a copy, and adapters that no file has begin as they were made."""
        self.report.new += [name for name in self.waiting() if name in self.adapters and name not in self.teacher_of]
        self.done |= {id(self.tensors[name]) for name in self.adapters}
        given = {self.teacher_of.get(name) for name in self.report.filled}
        waiting = [n for n in self.waiting() if n not in self.teacher_of or self.teacher_of[n] in given]
        spare = tuple(f"{name}." for name, component in self.components.items() if component.spare)
        missing = [n for n in waiting if self.tensors[n].dtype.is_floating_point and not n.startswith(spare)]
        if missing:
            left = [
                f"{file} has left over: {some(names)}" if names else f"nothing is left over of {file}"
                for file, names in self.report.unused.items()
            ]
            stems = " ".join(dict.fromkeys(f'"{stem(name)}.**"' for name in missing[:SHOWN]))
            raise UserError(
                f"`start`: no file has a weight for {some(missing)} ({len(missing)} in all)",
                hints=[*left, f"what is to be learnt from nothing is listed last: {{new: [...]}}, such as {stems}"],
            )

    def _means(self, pattern: str, name: str) -> bool:
        teacher = self.teacher_of.get(name)
        return matches(pattern, name) and teacher in (None, pattern.partition(".")[0])

    def _check_pattern(self, pattern: str, key: str) -> None:
        if not any(matches(pattern, name) for name in self.tensors):
            raise UserError(
                f"`start`: `{key}: {pattern}` names no weight",
                hints=did_you_mean(pattern, self.components) or [f"components: {', '.join(self.components)}"],
            )


def _in_file(item: Start, problem: Problem) -> tuple[str, ...]:
    """Name the file of a mistake that does not."""
    if not item.origin or item.origin in " ".join((problem.message, *problem.hints)):
        return ()
    return (f"in {item.origin}",)


def _spellings(state: Mapping[str, Tensor]) -> Iterator[dict[str, str]]:
    """A file's names without what a training loop's object puts before all of them (Lightning's `model.`), then as they
    are."""
    prefix = next((holder for holder in HOLDERS if state and all(name.startswith(holder) for name in state)), None)
    if prefix is not None:
        yield {name.removeprefix(prefix): name for name in state}
    yield {name: name for name in state}


def _named_below(state: Mapping[str, Tensor], component: str) -> dict[str, str]:
    """The tensors that a file has under a component's name, or under those of a run's checkpoint: bare name -> name."""
    named = {}
    for name in state:
        bare = name.removeprefix("components.").removeprefix("teachers.").removeprefix(f"{component}.")
        if name in (f"{home}{component}.{bare}" for home in ("", "components.", "teachers.")):
            named[bare] = name
    return named


def _check_of(of: str | None, named: Mapping[str, str], state: Mapping[str, Tensor], file: str) -> None:
    if of is not None and not named:
        homes = {name.removeprefix("components.").removeprefix("teachers.").split(".")[0] for name in state}
        raise UserError(
            f"`start`: {file} has no component {of!r}",
            hints=did_you_mean(of, homes) or [f"it has: {some(sorted(homes))}"],
        )


def _fitted(converted: Converted, component: Component, *, antialias: bool) -> Converted:
    """Tables of positions of the length that the module has: a grid's resized, a text's cut at the end."""
    ours = component.module.state_dict()
    for path, kind in component.tables.items():
        table = converted.tensors.get(path)
        if table is None or path not in ours or table.shape == ours[path].shape:
            continue
        if table.ndim != ours[path].ndim or table.shape[-1] != ours[path].shape[-1]:
            continue  # no table of this kind, as will be told
        rows = ours[path].shape[-2]
        if isinstance(kind, ImageTable):
            in_file = before_patches(table.shape[-2])
            converted = fit_positions(converted, path, rows, kind.first, in_file, antialias=antialias)
        elif isinstance(kind, TextTable):
            converted = first_positions(converted, path, rows, kind.last)
        else:
            tables = {**converted.tensors, path: resize_table(kind, table, ours[path])}
            converted = Converted(tables, converted.sources, (*converted.notes, f"{path}: resized"))
    return converted


def _by_word(component: Component) -> tuple[str | None, ...]:
    """Paths of what has a row for every word: the token table, and a head's table and bias."""
    head = ("weight", "bias") if isinstance(component.module, VocabularyHead) else ()
    return (component.embedding, *head)


def _grows(here: Tensor, tensor: Tensor) -> bool:
    return here.shape[1:] == tensor.shape[1:] and len(here) > len(tensor)


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _cut(lines: list[str]) -> list[str]:
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"and {len(lines) - SHOWN} more"]
