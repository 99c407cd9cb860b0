"""What a kind may offer beside its annotations, each by a name, with a call and a type.

Nothing is called because a class happens to have a method of some name. Static hooks stand in `HOOKS`, with what they
are called with; what the runtime calls of a module is the method of a class here, which the module's class extends.
All of it is checked where a kind is declared (`compose_vlp.declarations`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from compose_vlp.errors import UserError, did_you_mean, nearest

HOOKS: Final[Mapping[str, tuple[str, ...]]] = {
    "output": ("config", "ports"),  # the type of the result, where its annotation does not give it
    "flows": ("config",),  # how positions flow from each port, where settings decide
    "check": ("config",),  # settings that do not go together
    "check_batch": ("config", "rows"),  # settings that do not go with a step's records
    "describe": ("config",),  # facts that only a library knows
    "tables": ("config",),  # weights with a row for each position, by their paths
    "needs": ("config",),  # what a masker asks of the tokenizer of the words that it hides
}
"""Static hooks by name, with their arguments."""


class Keeps:
    """A module that keeps a state from step to step, which its kind declares by `state="kept"` or `"learns"`."""

    def commit(self) -> None:
        """Write what is remembered of the last forward in training: called once a step, after the backward."""
        raise NotImplementedError


class AfterStep:
    """A module whose parameters are put right after every step of the optimizer."""

    def after_step(self) -> None:
        """Called without gradients being recorded for it, in every module that extends this."""
        raise NotImplementedError


class CountsLayers:
    """A component that knows better than its paths how its parameters fall into layers."""

    def layer_numbers(self) -> Mapping[str, int | None]:
        """By the paths of parameters: the number of their layer, -1 below the first, None behind the last."""
        raise NotImplementedError


RUNTIME_ARGUMENTS: Final[Mapping[str, str]] = {
    "at": "selects=True",
    "scored": "chunks=True",
    "kv": 'context="indexed"',
    "rows": 'context="indexed"',
    "read": "last_layer=True",
    "cache": "",
    "tokenizer": "",
}
"""Arguments of `forward` that compiled programs give, not people, and the promise that goes with each.

`at` are the places at which scores are wanted, `scored` says whether they are made at once, `kv` are keys and values
instead of a context, `rows` the context of each row, `read` what is read of a tower's result, `cache` the positions
before, `tokenizer` that of the text which the call reads.
"""

METHODS: Final[Mapping[str, type]] = {"commit": Keeps, "after_step": AfterStep, "layer_numbers": CountsLayers}


def check_runtime_arguments(name: str, forward: Callable[..., Any], promises: Collection[str]) -> None:
    """Refuse arguments that programs would never give, and promises without the argument that they are about.

    Raises:
        UserError: naming the argument and the promise.
    """
    arguments = inspect.signature(forward).parameters
    for argument, promise in RUNTIME_ARGUMENTS.items():
        if promise and (argument in arguments) != (promise in promises):
            what = "is given by programs, where the kind is declared with" if argument in arguments else "goes with"
            raise UserError(f"{name}: the argument `{argument}` of forward {what} {promise}")
        if argument in arguments and arguments[argument].kind is not inspect.Parameter.KEYWORD_ONLY:
            raise UserError(f"{name}: programs give `{argument}` by name alone", hints=[f"forward(..., *, {argument})"])


def check_offers(name: str, implementation: type, state: str) -> None:
    """Refuse hooks that cannot be called as they are, and methods that nobody would call.

    Raises:
        UserError: naming the method, and what it would have to be.
    """
    for method, base in METHODS.items():
        if hasattr(implementation, method) and not issubclass(implementation, base):
            raise UserError(
                f"{name}: nobody calls `{method}` of a class that does not extend `{base.__name__}`",
                hints=[f"class {implementation.__name__}(nn.Module, {base.__name__}), of `{__name__}`"],
            )
    extends = issubclass(implementation, Keeps)
    if extends and state not in ("kept", "learns"):
        raise UserError(f'{name}: what extends `Keeps` is declared with state="kept" or state="learns", not {state!r}')
    if state == "kept" and not extends:
        raise UserError(f'{name}: what is declared with state="kept" extends `Keeps`, whose `commit` writes its state')
    for hook, problem in _wrong_hooks(implementation):
        call = ", ".join(HOOKS[hook])
        raise UserError(f"{name}: `{hook}` {problem}", hints=[f"@staticmethod; def {hook}({call}): ..."])
    for method, value in vars(implementation).items():
        near = nearest(method, HOOKS, 1) if isinstance(value, staticmethod) and not method.startswith("_") else ()
        if near and method not in HOOKS and abs(len(method) - len(near[0])) <= 1:
            raise UserError(f"{name}: no hook is called `{method}`", hints=did_you_mean(method, HOOKS))


def _wrong_hooks(implementation: type) -> Iterator[tuple[str, str]]:
    for hook, arguments in HOOKS.items():
        given: Any = inspect.getattr_static(implementation, hook, None)
        if given is None:
            continue
        if not isinstance(given, staticmethod | classmethod):
            yield hook, "is called with settings before there is a module, so it is static"
            continue
        try:
            inspect.signature(getattr(implementation, hook)).bind(*arguments)
        except TypeError as error:
            yield hook, f"is called with {', '.join(arguments)}: {error}"
