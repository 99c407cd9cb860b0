"""Any text model of the transformers library, as a tower that gives features of words."""

import inspect
import json
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from compose_vlp.components.attention import transformers_interface
from compose_vlp.components.attention.rerouted import ThroughAttend
from compose_vlp.components.encoders.transformers_model import Facts, facts, make, read_config, sized
from compose_vlp.components.layers.options import Options
from compose_vlp.errors import UserError
from compose_vlp.graph.kinds import Clash
from compose_vlp.graph.types import Flow
from compose_vlp.registry import ALL, AsPart, Settings, component, inferred
from compose_vlp.values import Part, Sequence, Text
from compose_vlp.values.cache import Cache


# What a model of other people's does with the rows of a batch is not known, so nothing is promised of it.
@component("transformers", rows="batch", state="none", draws="noise")
class TransformersText(nn.Module):
    """Any encoder or causal model of transformers without its head: `[batch, length]` ids to `[batch, length, width]`.

    Whether a position sees later ones is tried on a tiny copy, and so is whether our attention gives the library's
    numbers (else the library's own is kept) and whether it can go on from keys and values kept. Models that are trained
    on masked words have their CLS first (the tokenizer's begin token), others have none. Of an encoder and decoder (T5)
    it is the encoder. Weights are fresh; pretrained ones come from a folder, by `start: [{from: FOLDER, to: NAME}]`.
    """

    class Config(Settings):
        model: str = Field(description="a model type of transformers (`bert`, `gpt2`), or a folder with a config.json")
        options: Options = Field(default={}, description="changes to its configuration, by the library's names")
        vocab_size: int = inferred(description="rows of the token table")
        length: int = inferred(description="positions: the longest text's frame")

    parts: Mapping[str, str] = {"embedding": "embedding.weight"}

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.facts = _facts(config)
        model_config = sized(read_config(config.model, json.dumps(config.options)), config.vocab_size)
        self.first = model_config.pad_token_id + 1 if self.facts.after_padding else 0
        self.ours = self.facts.attention == transformers_interface.NAME
        self.model = make(model_config, self.facts.attention)
        self.embedding = self.model.get_input_embeddings()  # a second name, by which its table can be shared
        self.embedding.padding_idx = None  # the tokenizer's padding may be another id, and is masked anyway

    def forward(
        self, text: Annotated[Text, "rows length vocab_size", ALL], *, cache: Cache | None = None
    ) -> Annotated[Sequence, "rows length width", AsPart("language", cls="cls")]:
        """`[batch, length]` ids to `[batch, length, width]`; with `cache`, the ids are those that come next.

        Raises:
            UserError: the model cannot go on from a cache.
        """
        inputs: dict[str, Any] = {"input_ids": text.ids, **self._kept(cache)}
        if text.ids.device.type == "meta":
            inputs |= self._of_meta(text)
        elif cache is None and (self.ours or not self.facts.causal):
            inputs["attention_mask"] = text.valid if self.ours else text.valid.long()
        if self.first:
            begin = self.first + (cache.length if cache else 0)
            inputs["position_ids"] = torch.arange(begin, begin + text.ids.shape[1], device=text.ids.device)[None]
        with nullcontext() if self.ours else ThroughAttend():  # for models that call torch's attention themselves
            features = self.model(**inputs).last_hidden_state
        if cache is not None:
            cache.advance(text.ids.shape[1])
        first = cache is None or cache.length == text.ids.shape[1]  # words that come later have no CLS before them
        part = Part("language", 0, text.ids.shape[1], _cls(self.facts) if first else "none", text)
        return Sequence(features, (part,), text.valid)

    def _of_meta(self, text: Text) -> dict[str, Any]:
        """A mask and positions that leave the library nothing to ask, since nothing on the meta device can answer."""
        if not self.ours:
            return {}
        length = text.ids.shape[1]
        mask = text.valid[:, None, None].expand(-1, 1, length, length)
        if "position_ids" not in inspect.signature(self.model.forward).parameters:
            return {"attention_mask": mask}
        return {"attention_mask": mask, "position_ids": torch.arange(length, device="meta")[None]}

    def _kept(self, cache: Cache | None) -> dict[str, Any]:
        if cache is None:
            return {"use_cache": False} if self.facts.cached else {}
        if not self.facts.cached:
            raise UserError(f"{self.config.model} cannot go on word by word from keys and values that were kept")
        from compose_vlp.components.encoders.transformers_cache import borrowed

        return {"past_key_values": borrowed(cache, self.model.config.num_hidden_layers), "use_cache": True}

    @staticmethod
    def flows(config: Config) -> Mapping[str, Flow]:
        try:
            return {"text": Flow.PAST if _facts(config).causal else Flow.ALL}
        except UserError:  # said by `check`
            return {"text": Flow.ALL}

    @staticmethod
    def check(config: Config) -> tuple[Clash, ...]:
        try:
            _facts(config)
        except UserError as error:
            problem = error.problems[0]
            settings = tuple(name for name in ("model", "options", "length") if f"`{name}`" in problem.message)
            return (Clash(problem.message, settings, problem.hints),)
        return ()

    @staticmethod
    def describe(config: Config) -> Mapping[str, Any]:
        """Width, and what a tiny copy showed; nothing where transformers has no such model, which `check` says."""
        try:
            known = _facts(config)
        except UserError:
            return {}
        return {
            "width": known.width,
            "cls": _cls(known),
            "causal": known.causal,
            "attention": "ours" if known.attention == transformers_interface.NAME else "its own",
            "cache": known.cached,
        }


def _facts(config: TransformersText.Config) -> Facts:
    return facts(config.model, json.dumps(config.options), config.length)


def _cls(known: Facts) -> Literal["first", "none"]:
    return "first" if known.masked else "none"
