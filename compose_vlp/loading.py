"""A blueprint read, merged and checked: what everyone needs who compiles, builds, trains or loads a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from compose_vlp.errors import BlueprintError, Problem, UserError
from compose_vlp.readable import several, summary

if TYPE_CHECKING:
    from compose_vlp.blueprint.arguments import Overrides
    from compose_vlp.blueprint.document import Document
    from compose_vlp.graph.graph import CheckedBlueprint
    from compose_vlp.plugins import Plugin


class LoadedBlueprint:
    """A blueprint after its parents and overrides. Making one reads files and runs no code of theirs."""

    def __init__(
        self,
        document: Document,
        problems: Sequence[Problem] = (),
        notes: Sequence[str] = (),
        *,
        sound: bool = True,
        plugins: Sequence[Plugin] = (),
    ) -> None:
        self.document = document
        self.problems = tuple(problems)
        self.notes = tuple(notes)
        self.plugins = tuple(plugins)
        self._sound = sound

    @classmethod
    def load(cls, *names: str | Path, overrides: Overrides = (), plugins: Sequence[str | Path | Plugin] = ()) -> Self:
        """Read and merge blueprints, named or by path, with overrides as on the command line.

        Mistakes are kept and raised by `check`, together with those of the graph.

        >>> Blueprint.load("tiny/coca", overrides={"components.vision.depth": 2, "~losses.captioning": None})
        <Blueprint coca_tiny: 11 components, 1 loss>

        Args:
            names: blueprints in the order of merging.
            overrides: a list of `path=value`, `+path={...}` and `~path`, one of them as a text, or a mapping from paths
                to values, in which `~path` has None.
            plugins: Python files with parts of your own.

        Raises:
            UserError: a plugin that is not there, or that cannot be imported; overrides of another form.
        """
        from compose_vlp import registry
        from compose_vlp.blueprint.arguments import override_texts
        from compose_vlp.blueprint.resolve import resolve
        from compose_vlp.plugins import load_entry_points, loaded_from

        load_entry_points()
        own = loaded_from(plugins)
        texts = [str(name) for name in names]
        merged = resolve(texts, override_texts(overrides), fields_of=registry.fields_of, kinds=registry.names)
        return cls(merged.document, merged.problems, merged.notes, sound=merged.sound, plugins=own)

    @property
    def name(self) -> str:
        return self.document.name

    def __repr__(self) -> str:
        parts = {"component": self.document.components, "loss": self.document.losses}
        facts = [several(len(part), noun) for noun, part in parts.items()]
        facts += [several(len(self.problems), "mistake")] if self.problems else []
        return summary(type(self).__name__, self.name, *facts)

    def _repr_html_(self) -> str:
        """Show in a notebook the graph and what stands in the blueprint; or its mistakes."""
        from compose_vlp.pages import Markup, join, table, tag
        from compose_vlp.picture import embedded

        try:
            checked = self.check()
        except UserError as mistakes:
            rows = [(problem.span or "", problem.message, "; ".join(problem.hints)) for problem in mistakes.problems]
            return join([tag("p", tag("b", self.name)), table(("at", "mistake", "hint"), rows)])
        return join([embedded(checked), Markup(checked._repr_html_())])

    def anchored(self) -> Self:
        """Give the blueprint with its relative paths made absolute, from the folder in which this process stands."""
        from compose_vlp.blueprint.anchor import anchored

        document = anchored(self.document, Path.cwd())
        if document == self.document:
            return self
        return type(self)(document, self.problems, self.notes, sound=self._sound, plugins=self.plugins)

    def raise_problems(self) -> None:
        """Raise the mistakes that reading and merging found, if there are any; `check` finds more.

        Raises:
            BlueprintError: these mistakes.
        """
        if self.problems:
            raise BlueprintError(self.problems, self.document.lines())

    @cached_property
    def _checked(self) -> CheckedBlueprint:
        from compose_vlp import registry
        from compose_vlp.graph.checking.check import check, in_order

        if not self._sound:  # what could not be read would be missed everywhere
            self.raise_problems()
        checked = check(self.document, registry, self.problems)
        from compose_vlp.runtime.training.parameters import judge_parameters

        if problems := judge_parameters(checked):
            raise BlueprintError(in_order(problems, self.document), self.document.lines())
        if checked.variants:
            from compose_vlp.compiler.tables import check_shapes

            check_shapes(checked)
        return checked

    def check(self) -> CheckedBlueprint:
        """Types, dimensions, names, rows and flow, before any weight exists.

        >>> Blueprint.load("tiny/coca").check().components["multimodal"].config.context_width  # it was inferred
        128

        Raises:
            BlueprintError: all mistakes in one go, each with its place and a way to mend it.
        """
        return self._checked
