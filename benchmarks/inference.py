"""Embedding, re-ranking and writing of trained models, in turns with what one would take otherwise.

    embedding    pictures a second: CoCa beside open_clip's, BLIP beside transformers'
    ranking      pairs a second that `match` judges: keys of a picture made once for all its texts, or each time
    writing      tokens a second: CoCa greedily beside open_clip's calls, BLIP also with beams beside transformers'

Both sides have the same weights, freshly drawn, and turns alternate. What they compute is compared first: a relative
distance, or how many of the written tokens are the same.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from compose_vlp.compiler.model import build
from compose_vlp.interop import open_clip_coca
from compose_vlp.interop import transformers_blip as names
from compose_vlp.interop.verify import checked
from compose_vlp.interop.weights import load_weights
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.inference.tower_cache import Row, Stored
from compose_vlp.values import Image, Text

CPU = torch.device("cpu")
COCA = {"base": "coca_ViT-B-32"}
LENGTH = 20
"""Tokens of a written text, its first one included; none ends before."""
NUMBERS = (
    "components.bert={use: ids, vocab_size: 500, begin: '1', end: '2', pad: '0', mask: '3', tokens: ['[DEC]', '[ENC]']}"
)
"""A vocabulary for the tiny models, which have learnt none."""
PROMPT = (7, 20, 5)
"""Ids that stand for "a picture of"."""
TEXTS, FRAME = 16, 20
"""Texts that look at a picture, and their tokens."""
SMALL: dict[str, Any] = {
    "vision_config": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
                      "image_size": 32, "patch_size": 16},
    "text_config": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
                    "encoder_hidden_size": 48},
    "image_text_hidden_size": 24,
}  # fmt: skip
BASE: dict[str, Any] = {"vision_config": {"image_size": 224}, "text_config": {"encoder_hidden_size": 768}}
"""transformers' defaults are BLIP's base size, but for these."""


class Rival(NamedTuple):
    """Two ways to compute the same: `amount` pictures, pairs or tokens a call."""

    title: str
    unit: str
    amount: int
    ours: Callable[[], Tensor]
    its: Callable[[], Tensor]


def main() -> int:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", nargs="*", default=[], help="embedding, ranking, writing; all, if left out")
    parser.add_argument("--size", default="base", choices=("base", "tiny"), help="tiny: to try it (without open_clip)")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    print(f"{arguments.size}, {arguments.pictures} pictures, float32, {threads} threads, torch {torch.__version__}; "
          f"medians of {arguments.rounds} turns, by the clock and by processor time\n")  # fmt: skip
    print("| | ours | its | times as fast | by processor time | apart |\n|---|---|---|---|---|---|")
    for name, make in WHAT.items():
        if not arguments.what or name in arguments.what:
            for rival in make(arguments):
                print(row(rival, arguments.rounds), flush=True)
    return 0


@torch.no_grad()
def row(rival: Rival, rounds: int) -> str:
    """Both in turns, after one of each that also shows what they compute."""
    apart = distance(rival.ours(), rival.its())
    clock: dict[str, list[float]] = {"ours": [], "its": []}
    worked: dict[str, list[float]] = {"ours": [], "its": []}
    for _ in range(rounds):
        for name, run in (("ours", rival.ours), ("its", rival.its)):
            begun, at_work = time.perf_counter(), time.process_time()
            run()
            clock[name].append(time.perf_counter() - begun)
            worked[name].append(time.process_time() - at_work)
    rates = {name: rival.amount / statistics.median(seconds) for name, seconds in clock.items()}
    factors = [statistics.median(t["its"]) / statistics.median(t["ours"]) for t in (clock, worked)]
    return (f"| {rival.title} | {rates['ours']:.3g} {rival.unit}/s | {rates['its']:.3g} {rival.unit}/s | "
            f"{factors[0]:.2f} | {factors[1]:.2f} | {apart} |")  # fmt: skip


def distance(ours: Tensor, its: Tensor) -> str:
    """How far apart results are, relative to their norm; of words, how many are the same."""
    if ours.is_floating_point():
        return f"{float((ours - its).norm() / its.norm()):.1e}"
    length = min(ours.shape[1], its.shape[1])
    same = int((ours[:, :length] == its[:, :length]).sum())
    return f"{same} of {ours.shape[0] * length} tokens the same"


# --- models with the same weights


def coca(size: str) -> tuple[Any, Asker]:
    """open_clip's CoCa, and ours with its weights."""
    import open_clip

    library: Any = open_clip.create_model(COCA[size]).eval()
    nn.init.normal_(library.text_decoder.text_projection, std=library.text_decoder.width**-0.5)
    return library, asker(open_clip_coca.BLUEPRINT, [], open_clip_coca.import_state(library.state_dict()))


def blip(size: str, model_class: names.ModelClass) -> tuple[Any, Asker]:
    """A class of transformers' BLIP, and ours with its weights."""
    import transformers

    settings = BASE if size == "base" else SMALL
    words = 30522 if size == "base" else 500
    text = {**settings["text_config"], "vocab_size": words + 2, "bos_token_id": words, "sep_token_id": 102,
            "eos_token_id": 102, "pad_token_id": 0}  # fmt: skip
    config = transformers.BlipConfig(**{**settings, "text_config": text})
    library = getattr(transformers, model_class)(config).eval()
    for (
        parameter
    ) in library.parameters():  # its own first weights of the picture tower are of 1e-10, which hide what differs
        nn.init.normal_(parameter, std=0.05)
    ids = f"{{use: ids, vocab_size: {words}, begin: '101', end: '102', pad: '0', tokens: ['[DEC]', '[ENC]']}}"
    overrides = [*names.overrides(config.to_dict(), model_class), f"components.bert={ids}"]
    if model_class == "BlipForConditionalGeneration":
        overrides.append(f"prompted=logits(caption=prompt('{' '.join(map(str, PROMPT))}', caption))")
    return library, asker(names.BLUEPRINTS[model_class], overrides, names.import_state(library.state_dict()))


def asker(blueprint: Any, overrides: list[str], weights: dict[str, Tensor] | None = None) -> Asker:
    """A model of a blueprint with these weights, or fresh ones, and a tokenizer of numbers."""
    own = checked(blueprint, overrides)
    model = build(own, seed=0).eval()
    if weights is not None:
        read = {name.split(".")[0] for name in weights}
        load_weights(model, weights, spare=set(own.components) - read)
    tokenizers = {
        name: part.kind.implementation(part.config)
        for name, part in own.components.items()
        if part.kind.category == "tokenizer"
    }
    return Asker(own, model, tokenizers, CPU)


# --- what is measured


def embedding(arguments: argparse.Namespace) -> Iterator[Rival]:
    """Pictures of one batch."""
    count = arguments.pictures
    if arguments.size == "base":
        reference, ours = coca(arguments.size)
        yield of_pictures("CoCa ViT-B/32, beside open_clip", ours, reference.encode_image, count)
    library, ours = blip(arguments.size, "BlipForImageTextRetrieval")

    def embed(pixels: Tensor) -> Tensor:
        embedded: Tensor = library.vision_proj(library.vision_model(pixels).last_hidden_state[:, 0])
        return embedded

    yield of_pictures("BLIP, beside transformers", ours, embed, count)


def of_pictures(title: str, ours: Asker, its: Callable[[Tensor], Tensor], count: int) -> Rival:
    """Embeddings of one batch, of length 1."""
    pixels = torch.randn(count, 3, *(2 * [ours.blueprint.inputs["image"].size]))  # type: ignore[union-attr]
    batch = {"image": Image(pixels)}

    def embed() -> Tensor:
        return nn.functional.normalize(its(pixels), dim=-1)

    return Rival(title, "pictures", count, lambda: ours.value_of_batch("image_embedding", batch), embed)


def ranking(arguments: argparse.Namespace) -> Iterator[Rival]:
    """Pairs of a few pictures and all texts."""
    for paper in ("albef", "blip"):
        name = paper if arguments.size == "base" else f"tiny/{paper}"
        kept = [NUMBERS] if arguments.size == "tiny" else []
        ours = asker(name, kept)
        stored = Stored(ours, "match", logits=True)
        pairs = drawn_pairs(ours, stored, max(1, arguments.pictures // 4))
        # What `ask` makes once for a row it makes each time for copies of it.
        apart = [(dict(picture), text) for picture, text in pairs]
        yield Rival(
            f"{paper}: keys of a picture once for {TEXTS} texts, or each time", "pairs", len(pairs),
            partial(stored.ask, pairs),
            partial(stored.ask, apart),
        )  # fmt: skip


def drawn_pairs(ours: Asker, stored: Stored, pictures: int) -> list[tuple[Row, Row]]:
    """Each of some pictures with all texts."""
    size = ours.blueprint.inputs["image"].size  # type: ignore[union-attr]
    rows = stored.keep("image", {"image": Image(torch.randn(pictures, 3, size, size))})
    ids = torch.randint(5, 400, (TEXTS, FRAME))
    texts = stored.keep("caption", {"caption": Text(ids, torch.full((TEXTS,), FRAME), FRAME)})
    return [(row, text) for row in rows for text in texts]


def writing(arguments: argparse.Namespace) -> Iterator[Rival]:
    """Texts of open_clip's CoCa and transformers' BLIP."""
    if arguments.size == "base":
        yield from written_by_coca(arguments)
    library, ours = blip(arguments.size, "BlipForConditionalGeneration")
    side = library.config.vision_config.image_size
    pixels = torch.randn(arguments.pictures, 3, side, side)
    begun = torch.tensor([[library.config.text_config.bos_token_id, *PROMPT, 102]]).repeat(len(pixels), 1)
    lengths = {"max_length": LENGTH, "min_length": LENGTH, "repetition_penalty": 1.0}
    tokens = len(pixels) * (LENGTH - 1 - len(PROMPT))
    for title, beams in (("greedily", 1), ("3 beams", 3)):
        how = {**lengths, **({"length_penalty": 0.0} if beams > 1 else {})}

        def ours_writes(beams: int = beams, how: dict[str, Any] = how) -> Tensor:
            return ours.ids_of_batch("caption", {"image": Image(pixels)}, beams=beams, **how)[:, 1:]

        def library_writes(beams: int = beams, how: dict[str, Any] = how) -> Tensor:
            given = {"pixel_values": pixels, "input_ids": begun, "num_beams": beams, "do_sample": False}
            texts: Tensor = library.generate(**given, **how)
            return texts[:, 1 + len(PROMPT) :]

        yield Rival(f"BLIP, {title}, beside transformers", "tokens", tokens, ours_writes, library_writes)


def written_by_coca(arguments: argparse.Namespace) -> Iterator[Rival]:
    """Greedily, by the calls that open_clip's `generate` makes: release 3.3 refuses to run it beside transformers 5."""
    library, ours = coca(arguments.size)
    pixels = torch.randn(arguments.pictures, 3, 224, 224)
    begin, end = library.text.vocab_size - 2, library.text.vocab_size - 1

    def write() -> Tensor:
        latent, seen = library._encode_image(pixels)  # noqa: SLF001 (as `generate` calls it)
        ids = torch.full((len(pixels), 1), begin)
        for _ in range(LENGTH - 1):
            read = library(pixels, ids, image_latent=latent, image_embs=seen, output_labels=False)
            scores = read["logits"][:, -1]
            scores[:, end] = -torch.inf
            ids = torch.cat((ids, scores.argmax(-1, keepdim=True)), 1)
        return ids

    yield Rival(
        "CoCa ViT-B/32, greedily, beside open_clip", "tokens", len(pixels) * (LENGTH - 1),
        partial(ours.ids_of_batch, "caption", {"image": Image(pixels)}, beams=1, max_length=LENGTH, min_length=LENGTH),
        write,
    )  # fmt: skip


WHAT: dict[str, Callable[[argparse.Namespace], Iterator[Rival]]] = {
    "embedding": embedding,
    "ranking": ranking,
    "writing": writing,
}

if __name__ == "__main__":
    sys.exit(main())
