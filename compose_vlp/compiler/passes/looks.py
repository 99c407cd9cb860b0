"""What calls look at: the contexts, before an index picks rows of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compose_vlp.compiler.passes.context import PassContext
from compose_vlp.graph.plan import Arg, Call, Plan, Ref, refs_in


@dataclass(frozen=True)
class Look:
    """The contexts of a call, whose keys and values the parameters of `owner` make.

    `bases` are the values themselves, and `index` what picks their rows (None: each row looks at its own).
    """

    owner: str
    world: str | None
    bases: tuple[Ref, ...]
    index: Ref | None

    @property
    def keys(self) -> str:
        """The id of the call that makes keys and values of these contexts, whoever picks what of them."""
        owner = f"{self.world}.{self.owner}" if self.world else self.owner
        return f"{'+'.join(map(str, self.bases))}:keys of {owner}"


def looks_of(plan: Plan, context: PassContext) -> dict[str, Look]:
    """The looks of the calls that can be handed keys and values in place of their context, by their ids."""
    calls = plan.by_id()
    looks = {}
    for call in plan.calls:
        kind = context.kind_of(call) if call.role == "component" else None
        if kind is None or kind.traits.context != "indexed":
            continue
        picked = [_picked(calls, ref) for ref in refs_in(call.arg("context") or ())]
        if len({index for _, index in picked}) == 1:
            owner = context.keys_owner(call)
            looks[call.id] = Look(owner, call.world, tuple(base for base, _ in picked), picked[0][1])
    return looks


def _picked(calls: Mapping[str, Call], ref: Ref) -> tuple[Ref, Ref | None]:
    """A value and what picks its rows."""
    call = calls[ref.call]
    x, index = call.arg("x"), call.arg("index")
    if call.role == "index" and not ref.path and isinstance(x, Ref) and isinstance(index, Ref):
        return x, index
    return ref, None


def without_index(arg: Arg, look: Look) -> Arg:
    """The argument `context` with the values in the places of their rows."""
    return look.bases if isinstance(arg, tuple) else look.bases[0]
