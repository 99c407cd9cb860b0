"""Where in a picture a score has its reasons: `relevance` outputs, Grad-CAM over cross-attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any, cast

import torch
from torch import Tensor, nn

from compose_vlp.blueprint.inputs import ImageInput, TextInput
from compose_vlp.blueprint.sections import Relevance
from compose_vlp.compiler.compile import compile_plan
from compose_vlp.compiler.model import Step
from compose_vlp.components.attention.watch import watched
from compose_vlp.components.layers.attention import MergedCrossAttention
from compose_vlp.components.layers.transformer import Layer, Stack
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint, OutputEntry
from compose_vlp.graph.plan import Call, Ref, refs_in
from compose_vlp.graph.types import SequenceType
from compose_vlp.runtime.inference.outputs import NO_TABLES, Asker, Tables
from compose_vlp.runtime.modes import evaluating
from compose_vlp.values import Logits, Similarity, Text
from compose_vlp.values import Sequence as Tokens

PATCHES = "vision"
"""The part of a Sequence whose positions are patches of a picture, row by row."""
YES = 1
"""The class of two that is explained: a match, true. Of more classes it is each row's likeliest."""


@dataclass(frozen=True)
class Maps:
    """Where each row's picture gave its score, word by word.

    `words` [batch, words, side, side] is zero at padding; `text` are the words, begin and end tokens included; `scores`
    [batch] are the scores that are explained.
    """

    words: Tensor
    text: Text
    scores: Tensor

    @property
    def whole(self) -> Tensor:
        """[batch, side, side]: the mean over a row's words."""
        return self.words.sum(1) / self.text.lengths.clamp(min=1)[:, None, None]


class Explainer:
    """A `relevance` output: which patches speak for a score, by the attention that words pay to them.

    For a score s and the weights A [heads, words, patches] of one layer's cross-attention, a word's map is the mean
    over heads of A * max(ds/dA, 0), and a text's the mean over its words (ALBEF, Li et al. 2021, section 6.4 and its
    official `Grounding.py`; Grad-CAM is Selvaraju et al. 2017). The picture's CLS is left out, the text's counts as a
    word. In the last layer only those words have a map that the score reads, often the CLS alone.

    Args:
        asker: a model and its blueprint.
        output: an output of the form `relevance`.

    Raises:
        UserError: the output is of another form, the layer does not exist or looks at nothing, the positions are no
            patches of a picture, or those that look are no words.
    """

    def __init__(self, asker: Asker, output: str) -> None:
        blueprint = asker.blueprint
        entry = blueprint.outputs.get(output)
        if entry is None or not isinstance(entry.settings, Relevance) or entry.to is None:
            raise UserError(f"output {output!r} of {blueprint.name} explains no score")
        self.asker, self.output = asker, output
        self._patches = _patches(blueprint, output, entry.to)
        self.shown = _origin(blueprint, entry.to, ImageInput)
        """The input that is the picture whose places are weighed."""
        looker, self._place = _looker(blueprint, entry)
        self._attention = _attention(asker, entry, looker)
        words = looker.arg("x")
        assert isinstance(words, Ref), "what looks is one value"
        self.read = _origin(blueprint, words, TextInput)
        """The input that is the text whose words look at it."""
        results = {"score": entry.ref, "patches": entry.to, "words": words}
        self._program = compile_plan(
            blueprint,
            "relevance",
            results,
            trainable=lambda component: component == looker.target,
            # calls stay as they are written, so that theirs can be told
            without=("dedupe", "rows", "last_layer", "batch"),
        )

    def maps(self, given: Mapping[str, Sequence[Any]]) -> Maps:
        """Compute the maps of pictures and texts, lists of one length by field of a record.

        Raises:
            UserError: no records at all, or fields that are missing or not read.
        """
        batch = self.asker.batch(self.output, given)
        if batch is None:
            raise UserError(f"output {self.output!r}: there is nothing to explain")
        return self.maps_of_batch(batch)

    def maps_of_batch(self, batch: Mapping[str, Any], tables: Tables = NO_TABLES) -> Maps:
        """Compute the same for a batch that a loader made."""
        batch = self.asker.with_tables(self.output, batch, tables)
        model, step = self.asker.model, Step(self.asker.blueprint.constants_and_starts())
        with evaluating(model), torch.enable_grad(), watched(self._attention) as seen:
            result = model(self._program.run, batch, step)
            scores, weights = _scores(result["score"]), seen[self._place]
            (slopes,) = torch.autograd.grad(scores.sum(), weights)
        relevant = (weights.detach() * slopes.clamp(min=0)).mean(1)
        start, text = _words(result["words"], self.output)
        words = relevant[:, start : start + text.ids.shape[1]] * text.valid[:, :, None]
        return Maps(
            self._on_grid(words, result["patches"]).float().cpu(), text.to("cpu"), scores.detach().float().cpu()
        )

    def _on_grid(self, words: Tensor, patches: Tokens) -> Tensor:
        """Of `[batch, words, positions]` those that are patches, `[batch, words, side, side]`."""
        part = next(part for part in patches.parts if part.name == PATCHES)
        first, count = part.start + (part.cls == "first"), part.length - (part.cls != "none")
        side = isqrt(count)
        if side * side != count:
            raise UserError(f"output {self.output!r}: {count} positions of `{self._patches}` are no square of patches")
        grid: Tensor = words[:, :, first : first + count].unflatten(2, (side, side))
        return grid


def no_maps() -> Tensor:
    """Make the maps [0, 0, 0] of no pictures."""
    return torch.empty(0, 0, 0)


def _patches(blueprint: CheckedBlueprint, output: str, to: Ref) -> str:
    """Name the value whose positions are weighed."""
    kind = blueprint.type_of(to)
    assert isinstance(kind, SequenceType), "the checker lets positions alone be weighed"
    if kind.part(PATCHES) is None:
        parts = ", ".join(part.name for part in kind.parts)
        raise UserError(
            f"output {output!r}: the positions of `{to}` ({parts}) are no places of a picture",
            hints=["`to` takes what an image encoder gives, before any pooling"],
        )
    return str(to)


def _origin(blueprint: CheckedBlueprint, ref: Ref, kind: type[Any]) -> str:
    """Find the input of a type that a value stands on; the first, where it stands on several."""
    origins = [call.target for call in blueprint.fragment([ref]) if call.role == "input"]
    return next(name for name in origins if isinstance(blueprint.inputs[name], kind))


def _looker(blueprint: CheckedBlueprint, entry: OutputEntry) -> tuple[Call, int]:
    """Find the call that looks at `to`, and count those of the same component that look at something before it."""
    through = entry.settings.through
    looking = [
        call
        for call in blueprint.fragment([entry.ref])
        if call.role == "component" and call.target == through and call.world is None and call.arg("context")
    ]
    return next((call, place) for place, call in enumerate(looking) if entry.to in _contexts(call))


def _contexts(call: Call) -> list[Ref]:
    return list(refs_in(call.arg("context") or ()))


def _attention(asker: Asker, entry: OutputEntry, looker: Call) -> nn.Module:
    """Find the cross-attention of the layer that looks at `to`: of layers that take turns, that whose turn it is."""
    through, number, contexts = entry.settings.through, entry.settings.layer, _contexts(looker)
    component: nn.Module = getattr(asker.model.student, through)
    stack = next((module for module in component.children() if isinstance(module, Stack)), None)
    if stack is None or entry.to is None:
        raise UserError(f"output {entry.name!r}: `{through}` has no layers whose cross-attention could be read")
    layers = [cast(Layer, layer) for layer in stack]
    merges = any(layer.merges for layer in layers)
    count, turn = len(layers) // (1 if merges else len(contexts)), contexts.index(entry.to)
    if number >= count:
        raise UserError(
            f"output {entry.name!r}: `{through}` has {count} layers, and no layer {number}",
            hints=[f"layers count from 0: `outputs.{entry.name}.layer={(count - 1) // 2}` is the middle one"],
        )
    residual = layers[number if merges else number * len(contexts) + turn].cross_attention
    if residual is None:
        raise UserError(f"output {entry.name!r}: layer {number} of `{through}` has no cross-attention")
    branch: nn.Module = residual.branch
    return branch.attentions[turn] if isinstance(branch, MergedCrossAttention) else branch


def _scores(value: Any) -> Tensor:
    """[batch]: the number of each row that is explained."""
    if isinstance(value, Similarity):
        return value.scores[:, value.own :].diagonal()
    assert isinstance(value, Logits), "the checker lets scores alone be explained"
    return value.scores[:, YES] if value.scores.shape[1] == 2 else value.scores.max(1).values


def _words(value: Any, output: str) -> tuple[int, Text]:
    """Find where the words stand among what looks, and the words."""
    if isinstance(value, Text):
        return 0, value
    for part in value.parts:
        if part.text is not None:
            return part.start, part.text
    raise UserError(f"output {output!r}: what looks at the picture are no words")
