"""Functions of blueprints: values and types of what they give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from compose_vlp import registry
from compose_vlp.components.functions.combine import add, average, concat, rows
from compose_vlp.components.functions.gathered import gathered
from compose_vlp.components.functions.join import join
from compose_vlp.components.functions.normalize import normalize
from compose_vlp.components.functions.pooling import first, mean
from compose_vlp.components.functions.softmax import softmax
from compose_vlp.components.functions.words import begin, prompt
from compose_vlp.components.tokenizers.ids import Ids
from compose_vlp.errors import UserError
from compose_vlp.graph.types import (
    EmbeddingType,
    Flow,
    IndexType,
    LogitsType,
    RowSpace,
    SequenceType,
    SimilarityType,
    TextType,
)
from compose_vlp.graph.types import Part as PartType
from compose_vlp.values import Embedding, Index, Logits, Part, Sequence, Similarity, Text

VALID = torch.tensor([[True, True, True], [True, False, False]])


def sequence(tokens: int = 3, *, valid: torch.Tensor | None = None, cls: Any = "none") -> Sequence:
    return Sequence(torch.randn(2, tokens, 4), (Part("tokens", 0, tokens, cls),), valid)


def type_of(name: str, **ports: Any) -> Any:
    return registry.get(name).output(None, ports)


# --- vectors ----------------------------------------------------------------------------------------------------


def test_normalize_gives_length_one_and_keeps_whose_rows_they_are() -> None:
    out = normalize(Embedding(torch.randn(3, 8), own=6))
    assert torch.allclose(out.features.norm(dim=1), torch.ones(3))
    assert out.own == 6


def test_first_takes_the_first_position() -> None:
    x = sequence()
    assert torch.equal(first(x).features, x.features[:, 0])


def test_mean_leaves_padding_out() -> None:
    x = sequence(valid=VALID)
    out = mean(x).features
    assert torch.allclose(out[0], x.features[0].mean(0))
    assert torch.allclose(out[1], x.features[1, 0])
    assert torch.allclose(mean(replace(x, valid=None)).features, x.features.mean(1))
    assert not mean(replace(x, valid=torch.zeros_like(VALID))).features.any()


def test_softmax_gives_probabilities_and_keeps_the_kind() -> None:
    logits = softmax(Logits(torch.randn(2, 3)))
    assert isinstance(logits, Logits)
    assert torch.allclose(logits.scores.sum(1), torch.ones(2))
    similarity = softmax(Similarity(torch.randn(2, 5), own=2))
    assert isinstance(similarity, Similarity)
    assert similarity.own == 2
    for kind in (LogitsType(classes=3), SimilarityType()):
        assert type_of("softmax", x=kind) == kind


# --- several values ---------------------------------------------------------------------------------------------


def test_join_puts_tokens_one_after_the_other_under_names() -> None:
    language, vision = sequence(3, valid=VALID, cls="first"), sequence(2, cls="first")
    both = join(language=language, vision=vision)
    assert torch.equal(both.part("vision").features, vision.features)
    assert torch.equal(both.part("language").features, language.features)
    assert torch.equal(both.cls.features, language.features[:, 0])
    assert torch.equal(both.tokens.part("vision").features, vision.features[:, 1:])
    assert both.valid is not None
    assert both.valid.tolist() == [[True] * 5, [True, False, False, True, True]]
    assert join(a=vision, b=vision).valid is None


def test_the_type_of_a_join_has_the_parts_of_all() -> None:
    text = TextType(length=3, root="caption")
    language = SequenceType(width=4, parts=(PartType("x", 3, "first", text, {"caption": Flow.EACH}),))
    vision = SequenceType(width=4, parts=(PartType("y", 2),))
    both = type_of("join", language=language, vision=vision)
    assert [(p.name, p.length, p.text) for p in both.parts] == [("language", 3, text), ("vision", 2, None)]
    with pytest.raises(UserError, match="`again` is joined already, of language, vision"):
        type_of("join", again=both, vision=vision)


def test_add_average_and_concat_go_position_by_position() -> None:
    a, b = sequence(valid=VALID), sequence()
    assert torch.allclose(add([a, b]).features, a.features + b.features)
    assert torch.allclose(average([a, b]).features, (a.features + b.features) / 2)
    assert torch.equal(concat([a, b]).features, torch.cat((a.features, b.features), -1))
    out = add([a, b])
    assert isinstance(out, Sequence)
    assert (out.parts, out.valid) == (a.parts, a.valid)
    embedding = Embedding(torch.randn(2, 4))
    assert torch.equal(average([embedding]).features, embedding.features)


def test_one_value_that_is_no_list_is_a_list_of_one() -> None:
    embedding = Embedding(torch.randn(2, 4))
    for function in (add, average, concat, rows):
        assert torch.equal(function(embedding).features, embedding.features)  # type: ignore[arg-type]


def test_averages_by_owner_have_a_row_for_each_owner() -> None:
    x = Embedding(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    assert average([x], Index(torch.tensor([1, 0, 1]))).features.tolist() == [[3.0, 4.0], [3.0, 4.0]]
    texts, lines = RowSpace("classes"), RowSpace("lines of classes")
    owner = IndexType(texts, points_at=lines)
    output_type = type_of("average", values=(EmbeddingType(texts, width=2),), owner=owner)
    assert (output_type.rows, output_type.width) == (lines, 2)
    with pytest.raises(UserError, match="only vectors are put together by their owner"):
        type_of("average", values=(SequenceType(texts, width=2),), owner=owner)


def test_averages_by_owner_need_no_numbers_where_only_shapes_are_asked() -> None:
    with torch.device("meta"):
        mean = average([Embedding(torch.ones(3, 2))], Index(torch.zeros(3, dtype=torch.long)))
    assert isinstance(mean, Embedding) and mean.features.shape == (3, 2), "as many rows as there can be owners"


def test_scores_are_added_and_averaged() -> None:
    left, right = torch.randn(2, 5), torch.randn(2, 5)
    scores = average([Similarity(left, own=2, queued=1), Similarity(right, own=2, queued=1)])
    assert isinstance(scores, Similarity) and torch.equal(scores.scores, (left + right) / 2)
    assert (scores.own, scores.queued) == (2, 1)
    logits = add([Logits(left, TEXT), Logits(right, TEXT)])
    assert isinstance(logits, Logits) and torch.equal(logits.scores, left + right) and logits.text is TEXT


@pytest.mark.parametrize("function", [add, average, concat])
def test_nothing_is_broadcast(function: Any) -> None:
    with pytest.raises(UserError, match="values of one shape are wanted"):
        function([sequence(3), sequence(1)])


def test_channels_of_other_widths_stand_side_by_side() -> None:
    a, b = sequence(3, valid=VALID), sequence(3)
    wide = replace(b, features=torch.randn(2, 3, 7))
    assert concat([a, wide]).features.shape == (2, 3, 11)
    assert concat([Embedding(torch.ones(2, 3)), Embedding(torch.ones(2, 1))]).features.shape == (2, 4)


def test_the_types_of_scores_made_one() -> None:
    i, t = frozenset({"image"}), frozenset({"caption"})
    there, other = SimilarityType(sides=(i, t)), SimilarityType(sides=(frozenset({"left"}), t))
    assert type_of("average", values=(there, other)).sides == (i | {"left"}, t)
    with pytest.raises(UserError, match="one of these goes from rows to columns, another back"):
        type_of("add", values=(there, SimilarityType(sides=(t, i))))
    text = TextType(length=3, root="caption")
    assert type_of("add", values=(LogitsType(classes=3, text=text),) * 2).text is text
    with pytest.raises(UserError, match="these stand on `caption` and `question`"):
        type_of("add", values=(LogitsType(text=text), LogitsType(text=replace(text, root="question"))))
    with pytest.raises(UserError, match="only vectors are put together by their owner"):
        type_of("average", values=(LogitsType(classes=3),), owner=IndexType())


def test_rows_of_several_texts_stand_on_none() -> None:
    on_text = replace(sequence(3), parts=(Part("words", 0, 3, "none", TEXT),))
    out = rows([on_text, on_text])
    assert isinstance(out, Sequence) and out.parts[0].text is None
    kind = SequenceType(
        width=4, parts=(PartType("x", 3, text=TextType(length=3, root="caption", padding="`caption`")),)
    )
    assert [(p.length, p.text) for p in type_of("rows", values=(kind, kind)).parts] == [(None, None)]


def test_rows_come_one_after_the_other_and_are_padded_to_the_longest() -> None:
    short, long = sequence(2), sequence(3, valid=VALID)
    out = rows([short, long])
    assert isinstance(out, Sequence)
    assert out.features.shape == (4, 3, 4)
    assert out.valid is not None
    assert out.valid.tolist() == [[True, True, False], [True, True, False], *VALID.tolist()]
    whole = rows([short, short])
    assert isinstance(whole, Sequence)
    assert whole.valid is None
    vectors = rows([Embedding(torch.ones(1, 4)), Embedding(torch.zeros(2, 4))])
    assert vectors.features[:, 0].tolist() == [1, 0, 0]


def test_the_types_of_several_values_made_one() -> None:
    caption = EmbeddingType(width=4, reads={"caption": Flow.PAST})
    image = EmbeddingType(width=6)
    assert type_of("concat", values=(caption, image)) == EmbeddingType(width=10, reads={"caption": Flow.PAST})
    assert type_of("concat", values=(caption, EmbeddingType())).width is None
    assert type_of("add", values=(image, replace(caption, width=6))).reads == {"caption": Flow.PAST}
    stacked = type_of("rows", values=(caption, EmbeddingType(RowSpace("answers"), width=4)))
    assert str(stacked.rows) == "main & answers"
    x = SequenceType(width=4, parts=(PartType("x", 3, reads={"a": Flow.EACH}),))
    y = SequenceType(width=4, parts=(PartType("y", 3, reads={"b": Flow.PAST}),), reads={"b": Flow.PAST})
    assert type_of("average", values=(x, y)).parts[0].reads == {"a": Flow.EACH, "b": Flow.PAST}
    with pytest.raises(UserError, match="values of one kind; these are Embedding and Sequence"):
        type_of("add", values=(caption, x))


# --- words ------------------------------------------------------------------------------------------------------

TOKENIZER = Ids(Ids.Config(vocab_size=20, begin="18", end="19", tokens=("[DEC]",)))
TEXT = Text(torch.tensor([[18, 5, 6, 7, 19], [18, 8, 19, 0, 0]]), torch.tensor([5, 3]), frame=6)


def test_begin_replaces_the_first_token() -> None:
    out = begin(TEXT, "[DEC]", tokenizer=TOKENIZER)
    assert out.ids.tolist() == [[20, 5, 6, 7, 19], [20, 8, 19, 0, 0]]
    assert TEXT.ids[0, 0] == 18
    with pytest.raises(UserError, match="no token"):
        begin(TEXT, "[ENC]", tokenizer=TOKENIZER)


def test_a_prompt_stands_after_the_first_token_and_the_end_survives_the_frame() -> None:
    out = prompt("3 4", TEXT, tokenizer=TOKENIZER)
    assert out.ids.tolist() == [[18, 3, 4, 5, 6, 19], [18, 3, 4, 8, 19, 0]]
    assert out.lengths.tolist() == [6, 5]
    assert out.given is not None
    assert out.given.tolist() == [3, 3]


def test_a_prompt_of_an_empty_text_is_what_generation_begins_with() -> None:
    empty = Text(torch.full((2, 1), 18), torch.ones(2, dtype=torch.long), frame=6)
    out = prompt("3 4", begin(empty, "[DEC]", tokenizer=TOKENIZER), tokenizer=TOKENIZER)
    assert out.ids.tolist() == [[20, 3, 4]] * 2
    assert out.lengths.tolist() == [3, 3]


def test_a_prompt_by_a_tokenizer_without_begin_and_end_is_put_in_whole() -> None:
    bare = Ids(Ids.Config(vocab_size=20))
    assert prompt("3 4", TEXT, tokenizer=bare).ids[1].tolist() == [18, 3, 4, 8, 19, 0]


# --- processes --------------------------------------------------------------------------------------------------


def test_with_one_process_gathered_gives_what_it_is_given() -> None:
    x = Embedding(torch.randn(2, 4))
    assert gathered(x) is x


def test_the_type_of_what_is_gathered_says_so() -> None:
    output_type = type_of("gathered", x=EmbeddingType(width=4))
    assert (output_type.width, output_type.rows) == (4, RowSpace("main", gathered=True))
