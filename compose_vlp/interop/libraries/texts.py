"""A tokenizer of ours as a `tokenizer.json` of transformers: the same ids of the same texts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from compose_vlp.blueprint.inputs import TextInput
from compose_vlp.components.tokenizers.fast import FastTokenizer
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.data.wording import ALBEF_MARKS, BLIP_MARKS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPACE: Final = r"\s+"

_ALBEF: Final = [(ALBEF_MARKS.pattern, ""), (r"[-/]", " "), ("<person>", "person")]
CLEANING: Final[dict[str, list[tuple[str, str]]]] = {
    "albef_caption": _ALBEF,
    "albef_question": _ALBEF,
    "blip_caption": [(BLIP_MARKS.pattern, " ")],
    "blip_question": [(BLIP_MARKS.pattern, "")],
}
"""What an input's `clean` replaces in lower-case text; spaces are no words, so that their number matters to nobody."""


def library_tokenizer(tokenizer: Tokenizer, made: TextInput, *, pad: str) -> PreTrainedTokenizerFast | None:
    """Give a tokenizer of transformers that makes of a text the ids that the input makes, begin and end among them.

    A batch is filled up with `pad`. None of a tokenizer that is no object of the `tokenizers` library. What its JSON
    cannot say is left to the caller: `words` of the input, and ftfy and HTML in CLIP's cleaning.
    """
    from tokenizers import Tokenizer as Backend
    from transformers import PreTrainedTokenizerFast

    if not isinstance(tokenizer, FastTokenizer):
        return None
    whole: dict[str, Any] = json.loads(tokenizer.backend.to_str())
    whole["model"]["vocab"] |= {token: tokenizer.id_of(token) for token in tokenizer.config.tokens}
    backend = Backend.from_str(json.dumps(whole))
    _clean_first(backend, tokenizer, made)
    _put_around(backend, tokenizer, made)
    begin, end = tokenizer.role("begin"), tokenizer.role("end")
    roles = {"bos": begin, "cls": begin, "eos": end, "sep": end, "pad": pad, "mask": tokenizer.role("mask")}
    roles["unk"] = getattr(tokenizer.config, "unknown", None)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=made.max_length,
        padding_side="right",
        truncation_side="right",
        split_special_tokens=True,  # such a token in what somebody writes is words here
        extra_special_tokens=list(tokenizer.config.tokens),
        **{f"{role}_token": token for role, token in roles.items() if token is not None},
    )


def _clean_first(backend: Any, tokenizer: FastTokenizer, made: TextInput) -> None:
    from tokenizers import Regex, normalizers

    steps: list[Any] = []
    if made.clean is not None:
        steps.append(normalizers.Lowercase())
        steps += [normalizers.Replace(Regex(pattern), by) for pattern, by in CLEANING[made.clean]]
    if tokenizer.config.clean != "none":
        steps += [normalizers.NFC()] if tokenizer.config.clean == "clip" else []
        steps += [normalizers.Lowercase(), normalizers.Replace(Regex(SPACE), " "), normalizers.Strip()]
    steps += [backend.normalizer] if backend.normalizer is not None else []
    if steps:
        backend.normalizer = normalizers.Sequence(steps)


def _put_around(backend: Any, tokenizer: FastTokenizer, made: TextInput) -> None:
    """Put the begin token before a text and the end token after it, where it has these."""
    from tokenizers import processors

    begin, end = tokenizer.role("begin"), tokenizer.role("end") if made.end else None
    ids = {token: tokenizer.id_of(token) for token in (begin, end) if token is not None}
    if ids:
        single = [*([begin] if begin else []), "$A", *([end] if end else [])]
        backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=list(ids.items()))
