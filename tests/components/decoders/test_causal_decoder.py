"""The causal decoder: who sees whom, with and without a CLS, a context and a cache."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from compose_vlp import registry
from compose_vlp.components.decoders.causal_decoder import CausalDecoder
from compose_vlp.components.functions.join import join
from compose_vlp.errors import UserError
from compose_vlp.graph.types import Flow, SequenceType, TextType, one_part
from compose_vlp.graph.types import Part as PartType
from compose_vlp.values import Part, Sequence, Text
from compose_vlp.values.cache import Cache

Config = CausalDecoder.Config
WORDS = {"vocab_size": 30, "length": 8}
LENGTHS = (6, 4, 2)


def decoder(**settings: Any) -> CausalDecoder:
    made = CausalDecoder(Config(**{"width": 16, "depth": 2, "heads": 4} | settings)).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def words(lengths: tuple[int, ...] = LENGTHS, columns: int = 6, pad: int = 0) -> Text:
    ends = torch.tensor(lengths)
    ids = torch.randint(1, 30, (len(lengths), columns), generator=torch.Generator().manual_seed(3))
    return Text(ids.masked_fill(torch.arange(columns) >= ends[:, None], pad), ends, frame=8, pad=pad)


def image_tokens(rows: int = 3, *, padded: bool = False) -> Sequence:
    features = torch.randn(rows, 5, 12, generator=torch.Generator().manual_seed(4))
    valid = torch.arange(5) < torch.tensor([5, 3, 1])[:rows, None] if padded else None
    return Sequence(features, (Part("vision", 0, 5),), valid)


def changed(text: Text, place: int) -> Text:
    ids = text.ids.clone()
    ids[:, place] = (ids[:, place] + 7) % 29 + 1
    return replace(text, ids=ids)


def seen_by(model: CausalDecoder, text: Text) -> list[list[int]]:
    """For the first row: the words that each position's output depends on."""
    whole = model(text).features[0]
    reads: list[list[int]] = [[] for _ in whole]
    for place in range(text.ids.shape[1]):
        for position, differs in enumerate((model(changed(text, place)).features[0] - whole).abs().amax(-1) > 1e-6):
            if differs:
                reads[position].append(place)
    return reads


def test_a_word_sees_itself_and_what_came_before() -> None:
    assert seen_by(decoder(**WORDS), words((4,), 4)) == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]


def test_the_cls_sees_all_words_and_no_padding_and_no_word_sees_it() -> None:
    model = decoder(**WORDS, cls="last")
    assert seen_by(model, words((3,), 5))[-1] == [0, 1, 2]
    before = model(words())
    with torch.no_grad():
        assert model.cls is not None
        model.cls.add_(torch.randn(16))
    after = model(words())
    assert torch.equal(before.tokens.features, after.tokens.features)
    assert not torch.allclose(before.cls.features, after.cls.features)


def test_the_shifted_mask_hides_the_clss_own_place_and_shows_one_of_padding() -> None:
    model = decoder(**WORDS, cls="last", cls_mask="shifted", depth=1)
    keys = _Keys(model)
    model(words((3, 6), 6))
    assert keys.valid.tolist() == [[True] * 4 + [False] * 3, [True] * 7]
    with_pad_inside = words((3,), 6)
    with_pad_inside.ids[0, 1] = 0
    model(with_pad_inside)
    assert keys.valid.tolist() == [[True, True, False, True, False, False, False]]


class _Keys:
    """The keys that the first layer's queries may see."""

    def __init__(self, model: CausalDecoder) -> None:
        self.valid = torch.empty(0)
        model.layers[0].register_forward_pre_hook(self._note)

    def _note(self, _: Any, given: tuple[Any, ...]) -> None:
        self.valid = given[1].valid


@pytest.mark.parametrize("mask", ["correct", "shifted"])
def test_a_batch_trimmed_to_its_longest_text_gives_the_same_cls(mask: str) -> None:
    model = decoder(**WORDS, cls="last", cls_mask=mask, final_norm="cls")
    whole = words(LENGTHS, columns=8)
    trimmed = replace(whole, ids=whole.ids[:, :7])  # the longest, and one place of padding
    assert torch.allclose(model(whole).cls.features, model(trimmed).cls.features, atol=1e-6)
    tokens = model(whole).tokens.features[:, :7]
    assert torch.allclose(tokens, model(trimmed).tokens.features, atol=1e-6)


def test_the_last_norm_is_for_all_for_the_cls_or_for_nothing() -> None:
    text = words()
    models = {form: decoder(**WORDS, cls="last", final_norm=form) for form in ("all", "cls", "none")}
    for form in ("cls", "none"):
        models[form].load_state_dict(models["all"].state_dict(), strict=False)
    out = {form: model(text) for form, model in models.items()}
    assert torch.equal(out["cls"].tokens.features, out["none"].tokens.features)
    assert torch.allclose(out["cls"].cls.features, out["all"].cls.features, atol=1e-6)
    assert not torch.allclose(out["all"].tokens.features, out["none"].tokens.features, atol=1e-3)
    assert "norm.weight" not in models["none"].state_dict()


def test_layouts_of_cross_attention() -> None:
    def layer(**settings: Any) -> set[str]:
        state = decoder(cross_attention=True, context_width=12, depth=1, **settings).state_dict()
        return {".".join(name.split(".")[2:-1]) for name in state if name.startswith("layers")}

    paper = layer()
    assert {name.split(".")[0] for name in paper} == {"self_attention", "cross_attention", "ffn"}
    assert layer(cross_ffn=True, context_norm=True) - paper == {
        "self_ffn.norm",
        "self_ffn.branch.fc1",
        "self_ffn.branch.fc2",
        "cross_attention.branch.context_norm",
    }


def test_padding_of_the_context_is_not_looked_at() -> None:
    model = decoder(**WORDS, cross_attention=True, context_width=12)
    context = image_tokens(padded=True)
    assert context.valid is not None
    noisy = context.with_features(context.features.masked_fill(~context.valid[..., None], 1e3))
    assert torch.allclose(model(words(), context=context).features, model(words(), context=noisy).features)


def test_parts_of_a_sequence_come_one_after_the_other_and_padding_between_them_is_hidden() -> None:
    model = decoder()
    language = Sequence(torch.randn(2, 3, 16), (Part("x", 0, 3),), torch.tensor([[1, 1, 1], [1, 0, 0]]).bool())
    vision = Sequence(torch.randn(2, 2, 16), (Part("x", 0, 2),))
    both = join(language=language, vision=vision)
    out = model(both)
    assert [part.name for part in out.parts] == ["language", "vision"]
    noisy = both.features.clone()
    noisy[1, 1:3] = 1e3
    assert torch.allclose(model(both.with_features(noisy)).part("vision").features, out.part("vision").features)
    later = both.features.clone()
    later[:, 3:] += 1
    assert torch.equal(model(both.with_features(later)).part("language").features, out.part("language").features)


def test_a_cls_that_came_last_goes_on_seeing_words_and_no_padding() -> None:
    first, second = decoder(**WORDS, cls="last"), decoder()
    text = words()
    out = second(first(text))
    assert out.parts[0].cls == "last"
    noisy = first(text)
    hidden = noisy.features.clone()
    hidden[2, 2:6] = 1e3  # padding of the third text
    assert torch.allclose(second(noisy.with_features(hidden)).cls.features, out.cls.features)


def test_a_cls_that_came_first_is_a_position_like_others() -> None:
    sequence = Sequence(torch.randn(2, 4, 16), (Part("vision", 0, 4, "first"),))
    assert decoder()(sequence).parts[0].cls == "none"


def test_a_cls_is_put_behind_features_too() -> None:
    valid = torch.tensor([[True, True, False], [True, True, True]])
    sequence = Sequence(torch.randn(2, 3, 16), (Part("vision", 0, 3),), valid)
    out = decoder(cls="last")(sequence)
    assert out.features.shape == (2, 4, 16)
    assert out.valid is not None
    assert out.valid.tolist() == [[True, True, False, True], [True, True, True, True]]
    assert (out.parts[0].length, out.parts[0].cls) == (4, "last")


# --- word by word -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{}, {"cls": "last", "final_norm": "cls"}, {"cls": "last", "cls_mask": "shifted", "final_norm": "cls"}],
)
def test_word_by_word_gives_what_the_whole_text_gives(settings: dict[str, Any]) -> None:
    lower = decoder(**WORDS, **settings)
    upper = decoder(cross_attention=True, context_width=12, cross_ffn=True, context_norm=True)
    ids = torch.randint(0, 30, (3, 7))
    ids[:, 3] = 0  # a word with the padding's id
    context = image_tokens(padded=True)
    length = torch.full((3,), 7)
    text = Text(ids, length, 8)
    whole = upper(lower(text).tokens if settings else lower(text), context=context).features
    caches = Cache(), Cache()
    actual = []
    for start, end in ((0, 2), (2, 3), (3, 4), (4, 7)):
        part = Text(ids[:, start:end], torch.full((3,), end - start), 8)
        actual.append(upper(lower(part, cache=caches[0]), context=context, cache=caches[1]).features)
    assert torch.allclose(torch.cat(actual, 1), whole, atol=1e-5)
    assert caches[0].length == caches[1].length == 7


def test_beams_change_places_with_their_keys() -> None:
    model = decoder(**WORDS, cls="last", cls_mask="shifted", final_norm="cls")
    ids = torch.randint(0, 30, (3, 5))
    order = torch.tensor([2, 2, 0])
    cache = Cache()
    model(Text(ids, torch.full((3,), 5), 8), cache=cache)
    cache.reorder(order)
    new = torch.randint(1, 30, (3, 1))
    actual = model(Text(new, torch.ones(3, dtype=torch.long), 8), cache=cache).features[:, 0]
    whole = model(Text(torch.cat((ids[order], new), 1), torch.full((3,), 6), 8)).tokens.features[:, -1]
    assert torch.allclose(actual, whole, atol=1e-5)


def test_the_contexts_keys_are_projected_once() -> None:
    model = decoder(**WORDS, cross_attention=True, context_width=12)
    cache, calls = Cache(), []
    for layer in model.layers:
        layer.cross_attention.branch.kv.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(3):
        model(Text(torch.ones(3, 1, dtype=torch.long), torch.ones(3), 8), context=image_tokens(), cache=cache)
    assert len(calls) == 2


def test_keys_and_values_made_beforehand_and_picked_by_rows() -> None:
    model = decoder(**WORDS, cross_attention=True, context_width=12)
    context, rows = image_tokens(padded=True), torch.tensor([2, 0, 0])
    assert context.valid is not None
    picked = Sequence(context.features[rows], context.parts, context.valid[rows])
    expected = model(words(), context=picked).features
    assert torch.allclose(model(words(), kv=model.keys_values(context), rows=rows).features, expected, atol=1e-6)
    assert torch.allclose(model(words(), kv=model.keys_values(picked)).features, expected, atol=1e-6)


# --- what is known beforehand -----------------------------------------------------------------------------------

CAPTION = TextType(length=8, vocab_size=30, root="caption", reads={"caption": Flow.EACH})
VISION = SequenceType(width=12, parts=one_part("vision", 5))


def test_words_read_what_came_before_and_all_of_the_context() -> None:
    config = Config(width=16, cls="last", cross_attention=True, **WORDS)
    other = replace(VISION, reads={"question": Flow.PAST})
    output_type = registry.get(CausalDecoder.kind_name).output(config, {"x": CAPTION, "context": other})
    (part,) = output_type.parts
    assert (part.name, part.length, part.cls, part.text) == ("language", 9, "last", CAPTION)
    assert part.reads == output_type.reads == {"caption": Flow.PAST, "question": Flow.ALL}


def test_a_later_part_sees_all_of_an_earlier_one() -> None:
    def on(root: str) -> PartType:
        return PartType(root, 4, text=replace(CAPTION, root=root), reads={root: Flow.EACH})

    x = SequenceType(width=16, parts=(on("question"), on("answer")))
    output_type = registry.get(CausalDecoder.kind_name).output(Config(width=16), {"x": x})
    assert output_type.parts[0].reads == {"question": Flow.PAST}
    assert output_type.parts[1].reads == {"question": Flow.ALL, "answer": Flow.PAST}


@pytest.mark.parametrize(
    ("settings", "ports", "message"),
    [
        ({"cross_attention": True}, {"x": CAPTION}, "`cross_attention` is true: give it a `context`"),
        ({}, {"x": CAPTION, "context": VISION}, "`cross_attention` is false: set it, or give no `context`"),
        (
            {"cls": "last"},
            {"x": SequenceType(width=16, parts=(PartType("a"), PartType("b")))},
            r"`cls: last` needs a sequence of one part; this one has \['a', 'b'\]",
        ),
    ],
)
def test_ports_that_do_not_fit_the_settings_are_told(
    settings: dict[str, Any], ports: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        registry.get(CausalDecoder.kind_name).output(Config(width=16, **settings), ports)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 3}, "heads 3 does not divide width 16"),
        ({"final_norm": "cls"}, "final_norm: cls needs cls: last"),
        ({"cls_mask": "shifted"}, "cls_mask: shifted needs cls: last"),
        ({"cross_ffn": True}, "cross_ffn needs cross_attention: true"),
        ({"context_norm": True}, "context_norm needs cross_attention: true"),
    ],
)
def test_settings_that_do_not_go_together_are_told(settings: dict[str, Any], message: str) -> None:
    clashes = CausalDecoder.check(Config(**{"width": 16, "heads": 4} | settings))
    assert [clash.message for clash in clashes] == [message]


def test_a_decoder_of_features_takes_no_words() -> None:
    with pytest.raises(ValueError, match="built for a Sequence"):
        decoder()(words())
    with pytest.raises(ValueError, match="takes no context"):
        decoder().keys_values(image_tokens())
