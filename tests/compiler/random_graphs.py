"""Random blueprints over the built-in kinds, small enough to be compiled in every way and run in float64."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch

from compose_vlp.compiler.compile import Compiled
from compose_vlp.compiler.model import Step
from compose_vlp.compiler.synthetic import synthetic_batch
from compose_vlp.values import Image, Text

QUIET = "dropout: 0, attention_dropout: 0"
TOWER = "width: 16, heads: 2"
LAYOUTS = ("", "context_norm: true", "norm_eps: 0.01", "context_norm: true, norm_eps: 0.01", "cross_ffn: true")
SHARES = ("", 'share: {"*": NAME}', "share: {cross_attention: NAME}", 'share: {"*": NAME, self_attention: own}')


def _lines(entries: dict[str, str]) -> str:
    return "".join(f"\n  {name}: {value}" for name, value in entries.items())


@dataclass
class RandomGraph:
    """Draws a blueprint. What it writes may be refused by `check` now and then (a leak, say)."""

    random: Random
    graph: dict[str, str] = field(default_factory=dict)
    losses: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The blueprint as YAML."""
        self._base()
        makers = (
            self._contrastive,
            self._matching,
            self._writing,
            self._masked,
            self._classes,
            self._twins,
            self._twins,
        )
        for number, make in enumerate(self.random.choices(makers, k=self.random.randint(2, 4))):
            make(f"loss{number}")
        sections: dict[str, dict[str, str]] = {
            "inputs": {
                "image": "{type: image, size: 16}",
                "large": "{type: image, size: 64}",
                "caption": "{type: text, tokenizer: bert, max_length: 9}",
                "other": f"{{type: text, tokenizer: bert, max_length: {self.random.choice((8, 9, 5))}}}",
                "label": "{type: label, classes: [a, b, c, d]}",
            },
            "params": {"alpha": "{linear: [0.1, 0.4]}"},
            "components": self._components(),
            "teachers": {"momentum": "{decay: 0.9, update: before, mode: train}"},
            "graph": self.graph,
        }
        read = self._read({name: value for entries in sections.values() for name, value in entries.items()})
        written = [
            f"{section}:{_lines({name: value for name, value in entries.items() if name in read})}"
            for section, entries in sections.items()
            if read & entries.keys()
        ]
        stage = f"{{data: drawn, batch: 4, length: 2 steps, losses: [{', '.join(self.losses)}]}}"
        rest = ("data: {drawn: {use: scenes}}", "optimizer: {use: adamw, lr: 1e-3}", f"stages: {{train: {stage}}}")
        return "\n".join(("name: random", *written, f"losses:{_lines(self.losses)}", *rest)) + "\n"

    def _read(self, entries: dict[str, str]) -> set[str]:
        """The names that the losses reach; a blueprint has no others."""
        read: set[str] = set()
        todo = list(self.losses.values())
        while todo:
            for word in re.findall(r"(?<![.\w])[a-z_]\w*(?![\w=])", todo.pop()):
                if word in entries and word not in read:
                    read.add(word)
                    todo.append(re.sub(r"type: \w+", "", entries[word]))
        return read

    def _components(self) -> dict[str, str]:
        r = self.random
        depths = [r.choice((1, 1, 2)) for _ in range(6)]
        layout = r.choice(LAYOUTS)
        decoder_share = r.choice(SHARES).replace("NAME", "text")
        second_share = r.choice((*SHARES, SHARES[1], SHARES[1])).replace("NAME", "multi")
        norm = "context_norm: true"
        toggled = layout.replace(norm, "") if norm in layout else f"{layout}, {norm}"
        second = r.choice((layout, toggled, toggled, r.choice(LAYOUTS)))  # often one step from the first's
        kinds = {
            "bert": "wordpiece, vocab_size: 40, tokens: ['[ENC]', '[DEC]']",
            "vision": f"vit, {TOWER}, depth: {depths[0]}, patch: 8, cls: {r.choice(('first', 'none'))}",
            "conv": "timm, model: test_resnet",
            "text": f"bert_encoder, {TOWER}, {QUIET}, depth: {depths[1]}, length: 12, cross_attention: optional",
            "decoder": f"text_decoder, {TOWER}, {QUIET}, depth: {r.choice((depths[1], depths[2]))}, length: 12, "
            f"{decoder_share}",
            "uni": f"causal_decoder, {TOWER}, depth: 1, cls: {r.choice(('none', 'last'))}",
            "multi": f"causal_decoder, {TOWER}, depth: {depths[3]}, cross_attention: true, {layout}",
            "second": f"causal_decoder, heads: {r.choice((2, 2, 2, 4))}, "
            f"depth: {r.choice((depths[3], depths[3], depths[4]))}, cross_attention: true, {second}, {second_share}",
            "fusion": f"cross_attention_fuser, heads: 2, {QUIET}, depth: {depths[5]}",
            "pool": "attention_pooler, queries: 3, heads: 2",
            "narrow": "projection, out: 16",
            "out": "projection, out: 8",
            "match": "linear_head, classes: 2",
            "classify": "linear_head, classes: 4",
            "lm": "lm_head",
            "mlm": f"mlm_head, {r.choice(('', 'share: {weight: text.embedding}'))}",
            "sim": "similarity, temperature: 0.2",
            "memory": "feature_queue, size: 8",
            "hard": "hard_negative_miner",
            "assign": "text_assignment",
            "masker": "mlm_masker, probability: 0.4",
        }
        return {name: f"{{use: {re.sub(r'(, )+', ', ', value).rstrip(', ')}}}" for name, value in kinds.items()}

    # --- values

    def _base(self) -> None:
        r = self.random
        self.graph["v"] = r.choice(("vision(image)", "vision(image)", "narrow(conv(large))"))
        self.graph["t"] = "text(caption)"
        image, words = self._vector("v"), self._vector("t")
        self.graph["image_embedding"] = f"normalize(out({image}))"
        self.graph["text_embedding"] = f"normalize(out({words}))"
        if r.random() < 0.5:
            self.graph["keys"] = "memory(image=momentum.image_embedding, text=momentum.text_embedding)"
            self.graph["i2t"] = "sim(image_embedding, keys.text)"
            self.graph["t2i"] = "sim(text_embedding, keys.image)"
        else:
            self.graph["i2t"] = "sim(image_embedding, text_embedding)"
            self.graph["t2i"] = "sim(text_embedding, image_embedding)"
        self.graph["neg"] = "hard(i2t, t2i)"
        self.graph["masked"] = "masker(caption)"
        context = r.choice(("v", "v", "pool(v)", "average([v, v])", "vision(image)"))
        self.graph["joint"] = f"fusion(t, context={context})"

    def _named(self, value: str) -> str:
        """A value under a name of its own, or as it stands."""
        if self.random.random() < 0.4:
            return value
        name = f"g{len(self.graph)}"
        self.graph[name] = value
        return name

    def _context(self) -> str:
        """A picture's features: whole, pooled, of another row, of a second call, or averaged."""
        choices = (
            "v", "v", "v", "v[neg.image]", "pool(v)", "pool(v[neg.image])", "average([v, v])", "vision(image)",
            "add([v, v])" if self.random.random() < 0.3 else "v",
        )  # fmt: skip
        value = self.random.choice(choices)
        if "vision(" in value or "neg" in value:
            return value if "v" in self.graph else "v"
        return value

    def _words(self) -> str:
        return self.random.choice(("caption", "caption", "other", 'begin(caption, "[ENC]")', "caption[neg.text]"))

    def _features(self) -> str:
        """Features of a text that may have looked at a picture."""
        r = self.random
        words = self._words()
        return r.choice((
            "t", "joint", f"text({words})", f"text({words}, context={self._context()})",
            f"fusion(text({words}), context={self._context()})", f"fusion(t[neg.text], context={self._context()})",
            f"uni({words})", f"multi(text({words}), context={self._context()})",
            f"multi(uni({words}).tokens, context={self._context()})", f"second({words}, context={self._context()})",
            f"joint(caption={words})", "joint(v=v[neg.image])", "joint(t=t[neg.text])",
            f"momentum.{r.choice(('t', 'joint'))}",
            f"join(vision={self._context()}, language=text({words}))",
            f"fusion(fusion(t, context={self._context()}), context=v)",
            f"fusion(t, context=[{self._context()}, {self._context()}])" if r.random() < 0.1 else "joint",
        ))  # fmt: skip

    def _vector(self, features: str) -> str:
        return self.random.choice(("mean", "first", "mean")) + f"({features})"

    # --- losses

    def _contrastive(self, name: str) -> None:
        i2t, t2i = f"{name}_i2t", f"{name}_t2i"
        if self.random.random() < 0.5:
            self.losses[name] = "{use: contrastive, scores: [i2t, t2i]}"
            return
        words = (
            f"normalize(out({self._vector(self.random.choice(('text(caption)', 'uni(caption)', 't', 'text(other)')))}))"
        )
        self.graph[f"{name}_words"] = words
        form = self.random.choice(("NAME", "gathered(NAME)"))
        words, image = (form.replace("NAME", value) for value in (f"{name}_words", "image_embedding"))
        self.graph[i2t] = f"sim(image_embedding, {words})"
        self.graph[t2i] = f"sim({name}_words, {image})"
        self.losses[name] = f"{{use: contrastive, scores: [{i2t}, {t2i}]}}"

    def _matching(self, name: str) -> None:
        self.graph[f"{name}_p"] = f"match({self._vector(self._named(self._features()))})"
        negatives = []
        for number in range(self.random.randint(1, 3)):
            negatives.append(f"{name}_n{number}")
            changes = (f"match({self._vector(self._features())})", self._changed(f"{name}_p"))
            self.graph[negatives[-1]] = self.random.choice(changes)
        self.losses[name] = f"{{use: matching, positive: {name}_p, negatives: [{', '.join(negatives)}]}}"

    def _changed(self, entry: str) -> str:
        """The entry with one of the values that it reads put in anew."""
        read, todo = set(), [entry]
        while todo:
            for word in re.findall(r"[a-z_]\w*", self.graph.get(todo.pop(), "")):
                if word not in read:
                    read.add(word)
                    todo.append(word)
        changes = {"v": "v=v[neg.image]", "t": "t=t[neg.text]", "caption": "caption=other"}
        possible = [change for name, change in changes.items() if name in read]
        return f"{entry}({self.random.choice(possible)})" if possible and "neg" not in read else entry

    def _writing(self, name: str) -> None:
        words = self.random.choice(("caption", "other", 'begin(caption, "[DEC]")'))
        context = self._context()
        features = self.random.choice((
            f"decoder({words}, context={context})", f"second({words}, context={context})", f"decoder({words})",
            f"multi(uni({words}).tokens, context={context})",
        ))  # fmt: skip
        self.graph[f"{name}_logits"] = f"lm({self._named(features)})"
        self.losses[name] = f"{{use: next_token, logits: {name}_logits}}"

    def _twins(self, name: str) -> None:
        """Two components that may share their cross-attention look at one context."""
        first, second = self.random.choice((("multi", "second"), ("multi", "second"), ("text", "decoder")))
        features = [f"mean({part}(NAME, context=v))" for part in (first, second)]
        words = "caption" if first == "text" else self.random.choice(("uni(caption).tokens", "text(caption)"))
        left, right = (value.replace("NAME", words) for value in features)
        self.graph[f"{name}_logits"] = f"classify(add([{left}, {right}]))"
        self.losses[name] = f"{{use: cross_entropy, logits: {name}_logits, labels: label}}"

    def _masked(self, name: str) -> None:
        context = self._context()
        features = self.random.choice((
            "joint(caption=masked.text)", f"fusion(text(masked.text), context={context})", "text(masked.text)",
            f"text(masked.text, context={context})",
        ))  # fmt: skip
        self.graph[f"{name}_guess"] = f"mlm({features})"
        soft = f", soft: momentum.{name}_guess, alpha: $alpha" if self.random.random() < 0.5 else ""
        self.losses[name] = f"{{use: masked_lm, logits: {name}_guess, labels: masked.labels{soft}}}"

    def _classes(self, name: str) -> None:
        vector = self._vector(self._named(self._features()))
        self.graph[f"{name}_logits"] = f"classify({self.random.choice((vector, f'add([{vector}, {vector}])'))})"
        self.losses[name] = f"{{use: cross_entropy, logits: {name}_logits, labels: label}}"


def ragged(compiled: Compiled, random: Random) -> dict[str, Any]:
    """A batch in float64 whose texts have different lengths."""
    batch = synthetic_batch(compiled.plan, 4, "cpu", random.randint(0, 99))
    for name, value in batch.items():
        if isinstance(value, Image):
            batch[name] = Image(value.pixels.double())
        elif isinstance(value, Text):
            length = value.ids.shape[1]
            lengths = torch.tensor([random.randint(3, length) for _ in range(4)])
            batch[name] = Text(value.ids * (torch.arange(length) < lengths[:, None]), lengths, value.frame)
    return batch


class Recorder(Step):
    """Keeps what maskers and miners draw, so that every program is handed the same."""

    def choice(self, call: str, component: Any, *args: Any, **kwargs: Any) -> Any:
        drawn = component(*args, **kwargs)
        self.choices = {**self.choices, call: drawn}
        return drawn
