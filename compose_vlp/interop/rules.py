"""Renaming the tensors of a state dict: both ways by one table, gradients by the same table as weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from compose_vlp.errors import UserError, did_you_mean

Form = Literal["same", "transposed", "columns", "scalar", "batched", "token", "padded", "pixel"]
FORMS: Mapping[Form, tuple[int | None, ...]] = {
    "transposed": (None, None),
    "columns": (None, None),
    "token": (1, 1, None),
    "padded": (None, None),
    "pixel": (None, None, 1, 1),
}
"""Shapes that theirs has where more than a name differs; None is any size."""
UNUSED = 2
"""Rows that fairseq's tables of positions begin with, and that no position uses."""


@dataclass(frozen=True)
class Rule:
    """Their tensors, one below the other, are ours, one below the other (`in_proj_weight` = `q` over `kv`).

    `shares` are the rows of ours, and `their_shares` those of theirs, in proportion. `form` says what else differs:
    `transposed` (their matrices map from the left), `columns` (side by side, not one below the other), `scalar` (their
    `[]` is our `[1]`), `batched` (their `[1, m, n]` is our `[m, n]`), `token` (their `[1, 1, n]` is our `[n]`),
    `padded` (their `[2 + m, n]` is our `[m, n]`: fairseq's tables begin with rows that nothing uses), `pixel` (their
    `[m, n, 1, 1]`, a convolution of single pixels, is our `[m, n]`).
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    form: Form = "same"
    shares: tuple[int, ...] = ()
    their_shares: tuple[int, ...] = ()

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Ours, in the order of `ours`, from theirs in the order of `theirs`.

        Raises:
            UserError: one of theirs has not the form that this rule is for.
        """
        for name, tensor in zip(self.theirs, tensors, strict=True):
            self._check(name, tensor, tensors[0])
        ours = _split(_stack([self._turned(t, back=False) for t in tensors]), self.ours, self.shares, self.theirs)
        return [tensor.T for tensor in ours] if self.form == "columns" else ours

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Theirs, in the order of `theirs`, from ours in the order of `ours`."""
        rows = [tensor.T for tensor in tensors] if self.form == "columns" else tensors
        pieces = _split(_stack(rows), self.theirs, self.their_shares, self.ours)
        return [self._turned(piece, back=True) for piece in pieces]

    def _check(self, name: str, tensor: Tensor, first: Tensor) -> None:
        """Refuse a tensor that cannot be turned, stacked or cut; one of another size only is refused where it goes."""
        shape, form = list(tensor.shape), FORMS.get(self.form)
        if form is not None and (
            len(shape) != len(form) or any(f not in (None, n) for f, n in zip(form, shape, strict=True))
        ):
            sizes = ", ".join("n" if size is None else str(size) for size in form)
            raise UserError(f"`{name}` is {shape} in the file, where its format has [{sizes}]")
        if self.form == "scalar" and tensor.numel() != 1:
            raise UserError(f"`{name}` is {shape} in the file, where its format has one number")
        if self.form == "batched" and (len(shape) < 2 or shape[0] != 1):
            raise UserError(f"`{name}` is {shape} in the file, where its format has [1, n, ...]")
        if len(self.theirs) > 1 and (not shape or shape[1:] != list(first.shape[1:])):
            raise UserError(
                f"`{name}` is {shape} in the file and `{self.theirs[0]}` {list(first.shape)}: they do not go together"
            )
        if len(self.ours) > 1 and not shape:
            raise UserError(f"`{name}` is one number in the file, where its format has {len(self.ours)} parts")

    def _turned(self, tensor: Tensor, *, back: bool) -> Tensor:
        if self.form in ("transposed", "columns"):
            return tensor.T
        if self.form == "scalar":
            return tensor.reshape(() if back else (1,))
        if self.form == "batched":
            return tensor[None] if back else tensor[0]
        if self.form == "token":
            return tensor[None, None] if back else tensor[0, 0]
        if self.form == "pixel":
            return tensor[:, :, None, None] if back else tensor[:, :, 0, 0]
        if self.form == "padded":
            return torch.cat((tensor.new_zeros(UNUSED, *tensor.shape[1:]), tensor)) if back else tensor[UNUSED:]
        return tensor


def same(official: str, ours: str, form: Form = "same") -> Rule:
    """One tensor under two names."""
    return Rule((official,), (ours,), form)


def rows_of(state: Mapping[str, Tensor], name: str) -> int:
    """Count the rows of a tensor of theirs.

    Raises:
        UserError: it has none: it is one number.
    """
    if not state[name].ndim:
        raise UserError(f"`{name}` is one number in the file, where its format has rows")
    return len(state[name])


def named(official: str, ours: str, *suffixes: str) -> list[Rule]:
    """The same suffixes behind two stems (`.weight`, `.bias`)."""
    return [same(f"{official}.{suffix}", f"{ours}.{suffix}") for suffix in suffixes or ("weight", "bias")]


def to_ours(rules: Iterable[Rule], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their state dict under our names.

    Raises:
        UserError: a tensor is missing, or one is there that no rule names.
    """
    rules = list(rules)
    _complete("the state dict", state, [name for rule in rules for name in rule.theirs])
    return {
        name: tensor.contiguous()
        for rule in rules
        for name, tensor in zip(rule.ours, rule.to_ours([state[n] for n in rule.theirs]), strict=True)
    }


def to_theirs(rules: Iterable[Rule], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict (or our gradients) under their names.

    Raises:
        UserError: a tensor is missing, or one is there that no rule names.
    """
    rules = list(rules)
    _complete("the model", state, [name for rule in rules for name in rule.ours])
    return {
        name: tensor.contiguous()
        for rule in rules
        for name, tensor in zip(rule.theirs, rule.to_theirs([state[n] for n in rule.ours]), strict=True)
    }


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _split(tensor: Tensor, parts: Sequence[str], shares: tuple[int, ...], source: Sequence[str]) -> list[Tensor]:
    if len(parts) == 1:
        return [tensor]
    shares = shares or (1,) * len(parts)
    unit, rest = divmod(len(tensor), sum(shares))
    if rest:
        raise UserError(
            f"`{source[0]}` is no {len(parts)} parts: {len(tensor)} rows for {sum(shares)} shares",
            hints=[f"the parts are {', '.join(parts)}"],
        )
    return list(torch.split(tensor, [unit * share for share in shares]))


def _complete(what: str, state: Collection[str], expected: Sequence[str]) -> None:
    twice = [name for name, count in Counter(expected).items() if count > 1]
    assert not twice, f"rules name {twice} twice"
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in set(expected)]
    if missing or unexpected:
        counts = [f"{len(names)} {word}" for names, word in ((missing, "missing"), (unexpected, "unexpected")) if names]
        hints = [f"missing: {name}" for name in missing[:8]] + [
            " ".join((f"unexpected: {name}", *did_you_mean(name, missing))) for name in unexpected[:8]
        ]
        raise UserError(f"{what} does not fit: {' and '.join(counts)} of {len(expected)} tensors", hints=hints)
