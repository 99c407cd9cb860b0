"""What nothing reads: gone where inherited, a mistake where a file writes it."""

from __future__ import annotations

import pytest

from tests.blueprint.conftest import Resolve, only, pointed, problems_of

FUNCTIONS = frozenset({"mean", "first", "normalize", "gathered", "softmax", "join", "begin"})


def known(kind: str) -> frozenset[str] | None:
    """A catalogue of functions, and of nothing else."""
    return frozenset() if kind in FUNCTIONS else None


def test_an_override_of_a_renamed_parent_entry_is_noticed(child: Resolve) -> None:
    resolution = child("extends: albef\ncomponents:\n  imge_proj: {out: 512}\n")
    problem = only(resolution)
    assert pointed(problem, resolution.document.lines()) == "child.yaml:3:3 imge_proj"
    assert problem.message == "nothing reads component `imge_proj`"
    assert problem.hints[0].startswith("did you mean 'image_proj'")


def test_what_a_parent_left_unread_is_named(child: Resolve) -> None:
    problem = only(child("extends: blip\ncomponents:\n  fusion: {depth: 3}\n"))
    assert problem.message == "nothing reads component `fusion`"
    (hint,) = problem.hints
    assert hint.endswith("blip.yaml left `components.fusion` unread, so it is gone")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("params: {beta: 1}", "child.yaml:2:10 beta", "nothing reads param `beta`"),
        ("inputs: {other: {type: id}}", "child.yaml:2:10 other", "nothing reads input `other`"),
        ("teachers: {slow: {decay: 1}}", "child.yaml:2:12 slow", "nothing reads teacher `slow`"),
        ("graph: {extra: joint}", "child.yaml:2:9 extra", "nothing reads graph entry `extra`"),
    ],
)
def test_every_section_of_the_namespace_must_be_read(child: Resolve, text: str, place: str, message: str) -> None:
    assert problems_of(child(f"extends: coca\n{text}\n")) == [(place, message)]


def test_the_shared_vocabulary_may_stay_unread(child: Resolve) -> None:
    text = (
        "extends: coca\ndrop: ['losses.contrastive', 'outputs.*']\ngraph:\n  matched: head(fused)\n"
        "components:\n  head: {use: linear_head}\n"
    )
    document = child(text).document
    assert {"matched", "head", "fused", "image_embedding", "text_embedding", "image_proj"} <= set(document.names)
    assert not {"i2t", "similarity"} & set(document.names)


def test_vocabulary_that_reads_what_was_dropped_goes_too(child: Resolve) -> None:
    text = "extends: coca\ndrop: [losses.*, outputs.*, inputs.caption]\nlosses:\n  l: {use: x, of: image_embedding}\n"
    resolution = child(text)
    assert not resolution.problems
    assert "image_embedding" in resolution.document.names
    assert not {"joint", "fused", "text_embedding", "bpe"} & set(resolution.document.names)


@pytest.mark.parametrize(
    "text",
    [
        "components: {own: {use: adapter}}\ngraph: {visual: own(previous)}",
        "params: {w: 2}\nlosses: {captioning: {weight: $w}}",
        "params: {w: 2}\nlosses: {captioning: {weight: {linear: [0, $w]}}}",
        "components: {mine: {use: vit}, lm_head: {share: {weight: mine.embedding}}}",
        "components: {mine: {use: vit}, lm_head: {share: {'*': mine, norm: own}}}",
        "components: {own: {use: wordpiece}}\ninputs: {caption: {tokenizer: own}}",
        "inputs: {own: {type: text, tokenizer: bpe, max_length: 3}, caption: {like: own}}",
        "inputs: {own: {type: id}}\ngraph: {logits: 'lm_head(joint, same=own)'}",
        "inputs: {own: {type: id}}\nlosses: {contrastive: {same: own}}",
        (
            "inputs: {own: {type: text, like: caption, table: x.txt}}\n"
            "outputs: {r: {rank: logits, over: caption, among: own}}"
        ),
        "teachers: {own: {decay: 1}}\ngraph: {logits: own.previous_logits, previous_logits: lm_head(joint)}",
        (
            "params: {n: 3}\nstages: {a: {data: d, losses: [contrastive, captioning], length: $n}}\n"
            "data: {d: {use: scenes}}"
        ),
        "params: {n: 3}\noptimizer: {lr: $n}",
        "params: {n: 3}\ngraph: {visual: 'f(previous, $n)'}",
        (
            "params: {n: 3}\n"
            "stages: {a: {data: d, losses: [contrastive, captioning], set: {params.n: 4, x: $n}}}\n"
            "data: {d: {use: scenes}}"
        ),
    ],
)
def test_every_way_of_reading_counts(child: Resolve, text: str) -> None:
    resolution = child(f"extends: coca\n{text}\n")
    assert problems_of(resolution) == []
    assert {"own", "mine", "w", "n"} & set(resolution.document.names)


@pytest.mark.parametrize(
    "text",
    [
        "components: {own: {use: adapter}}\ngraph: {visual: 'f(own=previous)'}",  # an argument's name
        "components: {own: {use: adapter}}\ngraph: {visual: 'f(previous, \"own\")'}",  # a string
        "components: {own: {use: adapter}}\ngraph: {visual: previous.own}",  # a field
        "components: {own: {use: adapter}}\nlosses: {captioning: {use: own}}",  # a kind
        "components: {own: {use: adapter}}\ninputs: {image: {from: own}}",  # a record's field
    ],
)
def test_a_word_that_is_no_name_reads_nothing(child: Resolve, text: str) -> None:
    assert [message for _, message in problems_of(child(f"extends: coca\n{text}\n"))] == [
        "nothing reads component `own`"
    ]


def test_a_misspelt_reader_is_one_mistake_not_two(child: Resolve) -> None:
    text = "extends: albef\ncomponents:\n  adapter: {use: x}\ngraph:\n  t: adaptr(previous)\n"
    assert child(text, fields_of=known).problems == ()  # the checker of expressions says it, once
    assert "adapter" in child(text, fields_of=known).document.names


def test_a_misspelt_reader_does_not_take_what_it_meant(child: Resolve) -> None:
    resolution = child("extends: albef\ngraph:\n  v: visoin(image)\n", fields_of=known)
    assert "vision" in resolution.document.names


def test_a_file_that_was_not_read_whole_is_not_judged(child: Resolve) -> None:
    text = "extends: albef\ncomponents:\n  adapter: {use: x}\ngraph:\n  t: f(previous)\n  t: adapter(previous)\n"
    resolution = child(text)
    assert [message for _, message in problems_of(resolution)] == ["`t` is written twice, first at line 5"]
    assert not resolution.sound


def test_unread_entries_are_gone_for_children_too(load: Resolve) -> None:
    resolution = load("blip", "tasks/vqa_generate")
    assert not {"decoder", "lm_head", "memory", "alpha"} & set(resolution.document.names)
    assert {"text", "vision", "itm_head"} <= set(resolution.document.names)


# --- stages and patterns


def test_a_files_own_loss_must_be_in_a_stage(child: Resolve) -> None:
    resolution = child("extends: vlmo\nlosses:\n  extra: {use: x, of: joint}\n")
    problem = only(resolution)
    assert pointed(problem, resolution.document.lines()) == "child.yaml:3:3 extra"
    assert problem.message == "loss `extra` is in no stage"
    assert problem.hints == ("add it to the `losses` of a stage (language, pairs), or drop it",)


def test_a_stage_names_losses_that_exist(child: Resolve) -> None:
    text = "extends: albef\nstages: {a: {data: d, losses: [itd, itm, mlm]}}\ndata: {d: {use: scenes}}\n"
    resolution = child(text)
    problem = only(resolution)
    assert pointed(problem, resolution.document.lines()) == "child.yaml:2:32 itd"
    assert problem.message == "no loss is called `itd`"
    assert problem.hints == ("did you mean 'itm' or 'itc'?",)


def test_a_stage_names_data_that_exists(child: Resolve) -> None:
    text = (
        "extends: coca\nstages: {a: {data: {main: pair, other: web}, losses: [captioning]}}\n"
        "data: {pairs: {use: scenes}, web: {mix: {pairs: 1, cc: 2}}}\n"
    )
    resolution = child(text)
    assert problems_of(resolution) == [
        ("child.yaml:2:27 pair", "no data source is called `pair`"),
        ("child.yaml:3:52 cc", "no data source is called `cc`"),
    ]
    assert resolution.problems[0].hints == ("did you mean 'pairs'?",)
    assert resolution.problems[1].hints == ("+data.cc={use: ..., ...} adds one",)


def test_inherited_stages_lose_what_was_dropped_and_go_when_nothing_is_left(child: Resolve) -> None:
    resolution = child("extends: vlmo\ndrop: [losses.itm, losses.text]\n")
    assert not resolution.problems
    document = resolution.document
    assert document.stages.names == ("pairs",)
    entry = document.at("stages", "pairs", "losses")
    assert entry is not None
    assert [item.text for item in entry.value] == ["itc", "itc_vl", "mlm"]  # type: ignore[union-attr]
    assert any("leaves `itm` of `stages.pairs.losses`" in note for note in resolution.notes)
    assert any("leaves no loss to stage `language`" in note for note in resolution.notes)


def test_inherited_patterns_shrink_with_a_note(load: Resolve) -> None:
    resolution = load("beit3", "tasks/vqa_generate")
    assert "freeze" not in resolution.document.root
    assert any("leaves `codebook` of `freeze`" in note for note in resolution.notes)


def test_an_inherited_train_list_never_shrinks_to_nothing(load: Resolve) -> None:
    parent = "extends: albef\ntrain: [masker, '**.norm']\n"
    assert not load("child.yaml", parent=parent, child="extends: parent.yaml\ndrop: [losses.mlm]\n").problems
    parent = "extends: albef\ntrain: [masker]\n"
    resolution = load("child.yaml", parent=parent, child="extends: parent.yaml\ndrop: [losses.mlm]\n")
    assert problems_of(resolution) == [("parent.yaml:2:8 [masker]", "nothing is left of `train` in child.yaml")]


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("freeze: [visoin]", "child.yaml:2:10 visoin", "did you mean 'vision'"),
        (
            "train: text.layers.0\nfreeze: zzz",
            "child.yaml:3:9 zzz",
            "a pattern begins with a component, a teacher, `losses`, or `**`",
        ),
        (
            "optimizer: {lr: 1, rules: [{match: [vison.norm], lr: 0}]}",
            "child.yaml:2:37 vison.norm",
            "did you mean 'vision'?",
        ),
        ("start: [{from: x, to: visiom}, {new: ['**']}]", "child.yaml:2:23 visiom", "did you mean 'vision'"),
    ],
)
def test_a_files_own_patterns_must_name_something(child: Resolve, text: str, place: str, hint: str) -> None:
    resolution = child(f"extends: albef\n{text}\n")
    problem = only(resolution)
    assert pointed(problem, resolution.document.lines()) == place
    assert problem.hints[0].startswith(hint.rstrip("?"))


def test_patterns_reach_teachers_and_any_depth(child: Resolve) -> None:
    text = (
        "extends: albef\nstart: [{from: x, to: momentum.**}, {new: ['*_proj', '**.norm']}]\n"
        "freeze: ['vision.layers.*', '**']\n"
    )
    assert not child(text).problems


# --- names outside expressions


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        ("losses: {itc: {alpha: $alhpa}}", "child.yaml:2:23 $alhpa", "no param is called `$alhpa`",
         "did you mean 'alpha'?"),
        ("inputs: {caption: {tokenizer: brt}}", "child.yaml:2:31 brt", "no component is called `brt`",
         "did you mean 'bert'?"),
        ("inputs: {caption: {like: captoin}}", "child.yaml:2:26 captoin", "no input is called `captoin`",
         "did you mean 'caption'?"),
        ("graph: {joint: 'fusion(t, context=v, x=$aplha)'}", "child.yaml:2:40 $aplha",
         "no param is called `$aplha`", "did you mean 'alpha'?"),
    ],
)  # fmt: skip
def test_unknown_references(child: Resolve, text: str, place: str, message: str, hint: str) -> None:
    resolution = child(f"extends: albef\n{text}\n")
    assert (place, message) in problems_of(resolution)
    problem = next(p for p in resolution.problems if p.message == message)
    assert problem.hints == (hint,)


def test_a_files_own_loss_in_no_stage_is_told_beside_a_dropped_one_of_a_like_name(child: Resolve) -> None:
    text = "extends: vlmo\ndrop: [losses.mlm]\nlosses: {lm: {use: x, of: joint}}\n"
    assert problems_of(child(text)) == [("child.yaml:3:10 lm", "loss `lm` is in no stage")]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("extends: coca\nstages: {a: {data: pairs, losses: []}}\n", "child.yaml:2:35 []"),
        (
            "extends: coca\nlosses: {own: {use: x, of: joint}}\nstages: {a: {data: pairs, losses: []}}\n",
            "child.yaml:3:35 []",
        ),
        (
            "extends: vlmo\nstages: {a: {data: pairs, losses: [itc]}, b: {data: pairs, losses: []}}\n",
            "child.yaml:2:68 []",
        ),
    ],
)
def test_a_files_own_stage_has_losses(child: Resolve, text: str, place: str) -> None:
    resolution = child(f"{text}data: {{pairs: {{use: scenes}}}}\n")
    problem = only(resolution)
    assert pointed(problem, resolution.document.lines()) == place
    assert problem.message.endswith("has no losses, so it trains nothing")
