"""What is written of kinds, settings, ports, parts and inputs: wrong words are met with near ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compose_vlp.errors import Problem
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import ParamRef
from tests.graph.support import SMALL, checked, edited, paper, problems

Child = Callable[..., CheckedBlueprint]
Only = Callable[..., Problem]
Messages = Callable[..., list[tuple[str, str]]]


@pytest.mark.parametrize(
    ("line", "place", "message", "hints"),
    [
        ("components: {vision: {use: vitt}}", "vitt", "no component is called `vitt`", ("did you mean 'vit'?",)),
        ("components: {vision: {use: contrastive}}", "contrastive", "`contrastive` is a loss, not a component",
         ("losses stand in `losses`",)),
        ("components: {vision: {dept: 6}}", "dept", "`vit` has no setting `dept`",
         ("did you mean 'depth'?", "settings: width, depth, heads, patch, cls, positions, size")),
        ("components: {vision: {depth: six}}", "six", "`depth` cannot be `six`: expected a whole number", ()),
        ("components: {vision: {depth: -1}}", "-1", "`depth` should be greater than or equal to 0; it is `-1`", ()),
        ("components: {vision: {cls: frist}}", "frist", "`cls` cannot be `frist`: expected first or none",
         ("did you mean 'first'?",)),
        ("losses: {mlm: {label: masked.labels}}", "label", "`masked_lm` has no port or setting `label`",
         ("did you mean 'labels'?", "ports: logits, labels, soft, alpha", "settings: none")),
        ("losses: {itc: {use: contrastiv}}", "contrastiv", "no loss is called `contrastiv`",
         ("did you mean 'contrastive'?",)),
        ("losses: {itc: {label_smoothing: 2}}", "2", "`label_smoothing` should be less than 1; it is `2`", ()),
        ("losses: {itc: {weight: heavy}}", "heavy", "`weight` cannot be `heavy`: expected a number", ()),
        ("losses: {itc: {weight: {linear: [0]}}}", "[0]", "`linear` is a list of 2, not of 1", ()),
        ("losses: {itc: {alpha: {linear: [0, 0.4], ovr: 1 epoch}}}", "ovr", "no field is called `ovr`", None),
        ("losses: {itc: {scores: {linear: [0, 1]}}}", "{linear: [0, 1]}",
         "`scores` takes a name, a field, or a list of these", ()),
        ("losses: {itc: {alpha: high}}", "high", "`alpha` of `itc` takes a number, and this is 'high'", ()),
        ("losses: {itm: {positive: 'itm_head(joint.cls)'}}", "'itm_head(joint.cls)'",
         "a name, a field, or a list of these stands here",
         ("give it a name in `graph`: `itm_positive: itm_head(joint.cls)`",)),
        ("losses: {itm: {positive: {a: b}}}", "{a: b}", "`positive` takes a name, a field, or a list of these", ()),
        ("inputs: {caption: {tokenizer: vision}}", "vision", "`vision` is a vit, and no tokenizer", None),
        ("inputs: {image: {size: big}}", "big", "`size` cannot be `big`: expected a whole number", ()),
        ("inputs: {image: {sise: 3}}", "sise", "no field is called `sise`", ("did you mean 'size' or 'resize'?",)),
        ("params: {alpha: {linear: [0]}}", "[0]", "`linear` is a list of 2, not of 1", ()),
        ("teachers: {momentum: {decay: 2}}", "2", None, None),
        ("optimizer: {use: adamw, lr: fast}", "fast", None, None),
        ("precision: fp8", "fp8", None, None),
        ("start: [vision]", "vision", "an item of `start` is a mapping", None),
    ],
)  # fmt: skip
def test_a_wrong_word_is_pointed_at(
    messages: Messages, only: Only, line: str, place: str | None, message: str | None, hints: tuple[str, ...] | None
) -> None:
    text = f"extends: albef\n{line}\n"
    actual = [mistake for mistake in messages(text) if "nothing reads" not in mistake[1]]
    assert len(actual) == 1
    if place is not None:
        assert actual[0][0].split(" ", 1)[1] == place
    if message is not None:
        assert actual[0][1] == message
        assert hints is None or only(text).hints == hints


def test_a_setting_that_is_missing_points_at_the_component(messages: Messages) -> None:
    text = edited(SMALL, ("image_proj: {use: projection, out: 32}", "image_proj: {use: projection}"))
    assert messages(text) == [("child.yaml:9:3 image_proj", "`out` is missing")]


def test_a_component_without_use_says_what_there_is(only: Only) -> None:
    problem = only(edited(SMALL, ("image_proj: {use: projection, out: 32}", "image_proj: {out: 32}")))
    assert problem.message == "`image_proj` does not say what it is: `use` is missing"
    assert "projection" in problem.hints[0]


def test_a_port_that_must_be_fed(only: Only) -> None:
    problem = only("extends: albef\ngraph:\n  joint: fusion(t)\n  wrong_image: matched(t=t[neg.text])\n")
    assert problem.message == "`fusion`: it needs a `context`"


@pytest.mark.parametrize(
    ("expression", "place", "message"),
    [
        ("compare(ie, gathered(te), ie)", "ie", "`ie` is one argument too many for `compare`"),
        ("compare(ie, z=te)", "z", "`compare` has no port `z`"),
        ("compare(ie, x=te)", "x", "`x` of `compare` is given twice"),
        ("compare(ie, 3)", "3", "`y` of `compare` takes Embedding, and this is a literal"),
        ("compare(ie, [te, te])", "[te, te]", "`y` of `compare` takes one value, and `[te, te]` is a list"),
        ("compare(ie, t)", "t", "`y` of `compare` takes Embedding, and `t` is Sequence"),
        ("compare(ie, $scale)", "$scale", "`y` of `compare` takes no param"),
    ],
)
def test_an_argument_that_does_not_fit_its_port(messages: Messages, expression: str, place: str, message: str) -> None:
    text = edited(SMALL, ("compare(ie, gathered(te))", expression)) + "params: {scale: {linear: [0, 1]}}\n"
    text += "optimizer: {lr: $scale}\n"
    actual = messages(text)
    assert [(where.split(" ", 1)[1], what) for where, what in actual] == [(place, message)]


def test_a_wrong_kind_is_offered_the_usual_way_to_the_right_one(only: Only) -> None:
    problem = only(edited(SMALL, ("image_proj(v.cls)", "image_proj(v)")))
    assert problem.hints == (
        (
            "`image_proj(v).cls` is its CLS, `mean(image_proj(v))` pools its tokens, "
            "`first(image_proj(v))` is the first of them"
        ),
    )


def test_a_tower_without_a_cls_is_pointed_at_where_it_was_chosen(messages: Messages, only: Only) -> None:
    text = "extends: albef\ncomponents: {vision: {use: swin}}\n"
    ((place, message),) = messages(text)
    assert (place, message) == ("child.yaml:2:28 swin", "this Sequence has no CLS")
    assert only(text).hints == ("`mean(v)` pools its tokens",)


def test_a_literal_is_one_of_the_choices(messages: Messages) -> None:
    text = 'extends: beit3\ngraph:\n  joint: backbone(join(vision=patches, language=words), attention="prefx")\n'
    assert [message for _, message in messages(text)] == ["`attention` of `backbone` is not 'prefx'"]


def test_a_token_that_the_tokenizer_lacks_says_how_to_add_it(only: Only) -> None:
    problem = only('extends: albef\ngraph:\n  t: text(begin(caption, "[ENC]"))\n')
    assert problem.message == "tokenizer `bert` has no token `[ENC]`"
    assert problem.hints[-1] == "`components.bert.tokens: ['[ENC]']` adds it"


def test_functions_are_called_without_being_declared_and_their_names_are_taken(only: Only) -> None:
    problem = only(edited(SMALL, ("  compare:    {use: similarity}", "  mean:    {use: similarity}"))
                   .replace("compare(", "mean("))  # fmt: skip
    assert problem.message == "`mean` is the name of a function"


def test_a_kind_that_is_no_function_must_be_declared(messages: Messages) -> None:
    text = edited(SMALL, ("vision(image)", "vit(image)"))
    assert (
        "child.yaml:13:8 vit",
        "`vit` is a kind of component; only functions are called without being declared",
    ) in messages(text)


@pytest.mark.parametrize(
    ("expression", "place", "message", "hint"),
    [
        ("normalize(image_proj(vv.cls))", "vv", "nothing is called `vv`", "did you mean 'v'?"),
        ("normalise(image_proj(v.cls))", "normalise", "nothing is called `normalise`", "did you mean 'normalize'?"),
        ("normalize(image_proj(shown))", "shown", "`shown` is an output, and outputs are not names",
         "move its expression to `graph`, and let the output read it: `shown: shown`"),
        ("normalize(image_proj)", "image_proj", "`image_proj` is a component, and is called: `image_proj(...)`", None),
        ("normalize(image(v))", "image", "`image` is an input, which cannot be called", None),
        ("normalize(image_proj(v.clss))", "clss", "`v` (Sequence) has no `.clss`", "did you mean 'cls'?"),
        ("normalize(image_proj(te.cls))", "cls", "`te` (Embedding) has no `.cls`", "it has no fields"),
        ("image_proj(v.cls)(v)", "image_proj(v.cls)",
         "only a component, a graph entry or a function can be called, by its name", None),
        ("words(caption)", "words", "`words` is a tokenizer: inputs name it, nothing calls it", None),
        ("te[v]", "v", "an Index is wanted here, and `v` is Sequence", None),
    ],
)  # fmt: skip
def test_names_that_mean_nothing(
    problems_in: Callable[..., tuple[tuple[Problem, ...], dict[str, object]]],
    messages: Messages, expression: str, place: str, message: str, hint: str | None,
) -> None:  # fmt: skip
    text = edited(SMALL, ("ie:  normalize(image_proj(v.cls))", f"ie:  {expression}"))
    mistakes = [mistake for mistake in messages(text) if "nothing reads" not in mistake[1]]
    assert [(where.split(" ", 1)[1], what) for where, what in mistakes] == [(place, message)]
    problem = next(mistake for mistake in problems_in(text)[0] if mistake.message == message)
    assert hint is None or hint in problem.hints


def test_an_unknown_name_is_said_once(messages: Messages) -> None:
    text = edited(SMALL, ("v.cls", "zz.cls"), ("t.cls", "zz.cls"))
    assert [message for _, message in messages(text) if "zz" in message] == ["nothing is called `zz`"]


def test_all_mistakes_come_at_once(messages: Messages) -> None:
    text = edited(
        SMALL,
        ("width: 64, depth: 1, heads: 4, patch: 16", "width: 64, dept: 1, heads: 4, patch: 16"),
        ("image_proj(v.cls)", "image_proj(v.clss)"),
        ("normalize(text_proj(t.cls))", "normalise(text_proj(t.cls))"),
        ("scores: [i2t, t2i]", "scores: [i2t, t2i], weight: heavy"),
        ("shown: ie", "shown: {generte: ie}"),
    )
    places = [place.split(" ")[1] for place, _ in messages(text) if place]
    assert places == ["dept", "clss", "normalise", "heavy", "{generte:"]


# --- sharing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "place", "message"),
    [
        ("{weight: text.embeding}", "embeding", "`text` has no part `embeding`"),
        ("{wieght: text.embedding}", "wieght", "`mlm_head` has no part `wieght` to share"),
        ("{weight: tekst.embedding}", "tekst", "nothing is called `tekst`"),
        ("{weight: t}", "t", "`t` is no component"),
        ("{weight: mlm_head}", "mlm_head", "`mlm_head` cannot share from itself"),
        ("{'*': text.embedding}", ".embedding", "`*` shares with a component, not with a part"),
        ("{'*': own}", "own", "everything is its own without `share`"),
        ("text", "text", "`share` is a mapping of parts to their owners"),
    ],
)
def test_a_share_that_means_nothing(messages: Messages, share: str, place: str, message: str) -> None:
    actual = messages(f"extends: albef\ncomponents: {{mlm_head: {{share: {share}}}}}\n")
    assert [(where.split(" ", 1)[1], what) for where, what in actual] == [(place, message)]


def test_components_do_not_share_in_a_circle() -> None:
    actual = problems("blip", "components.text.share={'*': decoder}")
    assert [problem.message for problem in actual] == ["components share in a circle: text -> decoder -> text"]


def test_who_shares_everything_takes_unwritten_settings_and_says_what_is_its_own(child: Child) -> None:
    blueprint = child(
        "extends: blip\ncomponents:\n  decoder: {depth: 3}\n  wide: {use: vit, share: {'*': vision}, patch: 14}\n"
        "graph:\n  more: wide(image)\noutputs:\n  more_of: more\n",
    )
    assert blueprint.components["decoder"].config.depth == 3
    assert blueprint.components["decoder"].config.heads == 12
    assert blueprint.components["wide"].config.width == 768
    own = child("extends: albef\ncomponents:\n  twin: {use: bert_encoder, share: {'*': fusion}}\n"
                "graph:\n  more: twin(caption)\noutputs:\n  more_of: more\n")  # fmt: skip
    assert own.notes == (
        "twin: embedding is its own, fusion has none",
        "twin: positions is its own, fusion has none",
    )


def test_one_that_is_only_shared_from_counts_as_read() -> None:
    blueprint = checked("blip", "tasks/captioning")
    assert {"text", "decoder"} <= set(blueprint.components)
    assert "text" in blueprint.reached_components([blueprint.outputs["caption_of"].ref])


# --- inputs -------------------------------------------------------------------------------------------------------


def test_like_takes_what_is_not_written() -> None:
    blueprint = checked("albef", "tasks/vqa_generate")
    answers = blueprint.inputs["answers"]
    assert (answers.tokenizer, answers.max_length, answers.many) == ("bert", 10, True)  # type: ignore[union-attr]
    assert blueprint.inputs["question"].many is False  # type: ignore[union-attr]


def test_like_another_type_is_refused(only: Only) -> None:
    problem = only("extends: albef\ninputs:\n  id: {type: id, like: image}\nlosses:\n  itc: {same: id}\n")
    assert problem.message == "`id` is of type id, and `image`, which it is like, of type image".replace(
        "of type image", "of image"
    )


def test_a_paper_without_mistakes_has_none() -> None:
    assert paper("albef").notes == ()


def test_a_schedule_may_stand_wherever_a_loss_takes_a_number(child: Child) -> None:
    named = child(
        "extends: albef\nparams: {w: {linear: [0, 1], over: 1 epoch}, a: {cosine: [0, 0.4]}}\n"
        "losses: {itc: {weight: $w, alpha: $a}}\n"
    )
    placed = child(
        "extends: albef\nlosses: {itc: {weight: {linear: [0, 1], over: 1 epoch}, alpha: {cosine: [0, 0.4]}}}\n"
    )
    weight, alpha = placed.losses["itc"].weight, placed.calls["losses.itc"].arg("alpha")
    assert weight == ParamRef("losses.itc.weight") and alpha == ParamRef("losses.itc.alpha")
    assert placed.params["losses.itc.weight"] == named.params["w"]
    assert placed.params["losses.itc.alpha"] == named.params["a"]
