"""Has a model the shape of another library's class? Its graph and settings, beside the blueprint of that shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from compose_vlp.blueprint.inputs import ImageInput, TextInput
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Arg, Call, Constant, Ref
from compose_vlp.interop.verify import checked as blueprint_of

FOR_TRAINING: Final = frozenset({"dropout", "attention_dropout", "drop_path", "init_std", "temperature", "clamp"})
"""Settings that change nothing of a trained model's numbers."""

SIZES: Final = frozenset(
    {"width", "depth", "heads", "mlp_width", "patch", "size", "length", "vocab_size", "context_width", "input_width"}
    | {"out", "queries"}
)
"""Settings that every configuration has room for."""


@dataclass(frozen=True)
class LibraryClass:
    """A class of another library: the blueprint that computes the same, and the outputs that the class gives.

    `room` names the settings, besides sizes, that its configuration has room for, by component (`*`: every one); `also`
    components whose weights it has, and that no output reads.
    """

    name: str
    blueprint: str
    outputs: tuple[str, ...]
    room: Mapping[str, frozenset[str]]
    also: tuple[str, ...] = ()

    def components(self) -> frozenset[str]:
        """Names of the components whose weights it has."""
        reference = _reference(self.blueprint)
        return reference.reached_components(reference.outputs[name].ref for name in self.outputs) | set(self.also)


def likeness(checked: CheckedBlueprint, of_class: LibraryClass) -> float:
    """Give the share of a class's components that a model has, by name and kind."""
    reference, names = _reference(of_class.blueprint), of_class.components()
    alike = [
        checked.components[name].kind == reference.components[name].kind for name in names & set(checked.components)
    ]
    return sum(alike) / len(names)


@lru_cache(maxsize=8)
def _reference(name: str) -> CheckedBlueprint:
    return blueprint_of(name.split(), [])


def misfits(checked: CheckedBlueprint, of_class: LibraryClass) -> list[str]:
    """Tell, a line each, in what a model departs from a class: outputs that it lacks or computes otherwise, and
    settings that the class's configuration has no room for. None of a model that has its shape."""
    lacking = [f"it has no output `{name}`" for name in of_class.outputs if name not in checked.outputs]
    return lacking or [*_other_settings(checked, of_class), *_other_graphs(checked, of_class)]


def _other_settings(checked: CheckedBlueprint, of_class: LibraryClass) -> Iterator[str]:
    reference = _reference(of_class.blueprint)
    for name, part in reference.components.items():
        if name not in of_class.components() or name not in checked.components:
            continue
        own = checked.components[name]
        if own.kind.name != part.kind.name:
            yield f"components.{name}.use is {own.kind.name}, where it has {part.kind.name}"
            continue
        room = FOR_TRAINING | SIZES | of_class.room.get(name, frozenset()) | of_class.room.get("*", frozenset())
        for key in type(part.config).model_fields:
            mine, other = _setting(own.config, key), _setting(part.config, key)
            if key not in room and mine != other:
                yield f"components.{name}.{key} is {_shown(mine)}, where it has {_shown(other)}"


def _setting(config: Any, key: str) -> Any:
    value = getattr(config, key)
    return "gelu" if key == "activation" and value is None else value


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(getattr(value, "use", value))


def _other_graphs(checked: CheckedBlueprint, of_class: LibraryClass) -> Iterator[str]:
    reference = _reference(of_class.blueprint)
    for name in of_class.outputs:
        mine, other = checked.outputs[name], reference.outputs[name]
        written, meant = expression(checked, mine.ref), expression(reference, other.ref)
        if mine.form != other.form or written != meant:
            yield f"outputs.{name} is {written}, where it has {meant}"


def expression(checked: CheckedBlueprint, ref: Ref) -> str:
    """Write a value as one expression down to its inputs, which stand by their type, without the prompt of a text."""

    def argument(arg: Arg) -> str:
        if isinstance(arg, Ref):
            return expression(checked, arg)
        return repr(arg.value) if isinstance(arg, Constant) else str(arg)

    call = checked.calls[ref.call]
    written = _written(checked, call, {name: argument(arg) for name, arg in call.args})
    return ".".join((written, *ref.path))


def _written(checked: CheckedBlueprint, call: Call, args: Mapping[str, str]) -> str:
    if call.role == "input":
        made = checked.inputs[call.target]
        return {ImageInput: "image", TextInput: "text"}.get(type(made), call.target)
    if call.role == "read":
        return f"{args['x']}.{call.target}"
    if call.role == "index":
        return f"{args['x']}[{args['index']}]"
    if call.target == "prompt":
        return args["text"]
    world = f"{call.world}." if call.world else ""
    positional = [value if place == 0 else f"{name}={value}" for place, (name, value) in enumerate(args.items())]
    return f"{world}{call.target}({', '.join(positional)})"


def prompt_of(checked: CheckedBlueprint, ref: Ref) -> str:
    """Give the words that a generated text begins with; none where it has no prompt."""
    for call in checked.fragment([ref]):
        words = call.arg("words") if call.target == "prompt" else None
        if isinstance(words, Constant):
            return str(words.value)
    return ""
