"""Multiway towers: timm's numbers for a picture, experts by parts, biases by places, prefixes that see no words."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from scipy.interpolate import RectBivariateSpline

from compose_vlp.api import Blueprint
from compose_vlp.components.embeddings.patch_embedding import PatchEmbedding
from compose_vlp.components.encoders.multiway_transformer import MultiwayTransformer
from compose_vlp.components.layers.multiway import BiasRows, BiasTable, resize_distances
from compose_vlp.errors import BlueprintError
from compose_vlp.values import Image, Mask, Part, Sequence, Text
from tests.support import assert_near

SIZES: dict[str, Any] = {"width": 48, "depth": 3, "heads": 4}
PAIR: dict[str, Any] = {"positions": {"use": "relative", "frame": 12}, "grid": 2}


def tower(**settings: Any) -> MultiwayTransformer:
    made = MultiwayTransformer(MultiwayTransformer.Config(**{**SIZES, **settings})).double().eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter.data, std=0.1)
    return made


def text(lengths: tuple[int, ...] = (6, 4)) -> Text:
    ids = torch.randint(1, 20, (len(lengths), max(lengths)))
    return Text(ids, torch.tensor(lengths), 12)


def pair(on: Text | None = None, rows: int = 2) -> Sequence:
    on = on or text()
    n = on.ids.shape[1]
    parts = (Part("language", 0, n, "first", on), Part("vision", n, 5, "first"))
    valid = torch.cat((on.valid, torch.ones(rows, 5, dtype=torch.bool)), 1)
    return Sequence(torch.randn(rows, n + 5, 48, dtype=torch.float64), parts, valid)


@pytest.mark.parametrize("relative", [True, False])
def test_a_picture_is_read_as_timms_beit_reads_it(relative: bool) -> None:
    reference = timm.models.beit.Beit(
        img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=4, num_classes=0, global_pool="token",
        init_values=0.1 if relative else None, use_abs_pos_emb=not relative, use_shared_rel_pos_bias=False,
        use_rel_pos_bias=relative,
    ).double().eval()  # fmt: skip
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter.data, std=0.1)
    positions = {"positions": {"use": "relative", "frame": 9}, "grid": 4} if relative else {}
    ours = tower(layer_scale=0.1 if relative else None, key_bias=False, **positions)
    patches = PatchEmbedding(
        PatchEmbedding.Config(width=48, patch=8, size=32, positions="none" if relative else "learned")
    ).double()
    state = reference.state_dict()
    with torch.no_grad():
        patches.cls.copy_(state["cls_token"][0, 0])
        patches.stem.projection.load_state_dict(reference.patch_embed.proj.state_dict())
        if not relative:
            patches.positions.copy_(state["pos_embed"][0])
        ours.norm.load_state_dict(reference.norm.state_dict())
        for i, block in enumerate(reference.blocks):
            layer = ours.layers[i]
            layer.self_attention.norm.load_state_dict(block.norm1.state_dict())
            branch = layer.self_attention.branch
            branch.qkv.weight.copy_(block.attn.qkv.weight)
            branch.q_bias.copy_(block.attn.q_bias)
            branch.v_bias.copy_(block.attn.v_bias)
            branch.out.load_state_dict(block.attn.proj.state_dict())
            expert = layer.experts["vision"]
            expert.norm.load_state_dict(block.norm2.state_dict())
            for name in ("fc1", "fc2"):
                getattr(expert.ffn, name).load_state_dict(getattr(block.mlp, name).state_dict())
            if relative:
                layer.self_attention.scale.copy_(block.gamma_1)
                layer.ffn_scale.copy_(block.gamma_2)
                columns = block.attn.relative_position_bias_table
                ours.relative_bias.table[: len(columns), i * 4 : (i + 1) * 4] = columns
    pixels = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    actual = ours(patches(Image(pixels))).features
    torch.testing.assert_close(actual, reference.forward_features(pixels), rtol=1e-9, atol=1e-9)


def test_a_part_goes_to_the_expert_of_its_name_or_all_to_one() -> None:
    model, x = tower(depth=1, experts=("vision", "language", "vision_language")), pair()
    before = model(x).features
    with torch.no_grad():
        model.layers[0].experts["vision"].ffn.fc2.bias.add_(1)
    after = model(x).features
    assert torch.equal(after[:, :6], before[:, :6]) and not torch.equal(after[:, 6:], before[:, 6:])
    together = model(x, expert="vision_language").features
    with torch.no_grad():
        model.layers[0].experts["vision"].ffn.fc2.bias.add_(1)
    assert torch.equal(model(x, expert="vision_language").features, together)


@pytest.mark.parametrize("settings", [PAIR, {"attention_experts": True, "sub_norm": True}], ids=["vlmo", "beit3"])
def test_padding_of_the_text_changes_nothing(settings: dict[str, Any]) -> None:
    model, x = tower(**settings), pair()
    wider = Text(torch.nn.functional.pad(x.parts[0].text.ids, (0, 3)), torch.tensor([6, 4]), 12)
    padded = pair(wider)
    features = torch.cat((x.features[:, :6], torch.randn(2, 3, 48, dtype=torch.float64), x.features[:, 6:]), 1)
    actual = model(padded.with_features(features))
    torch.testing.assert_close(actual.part("vision").features, model(x).part("vision").features)
    torch.testing.assert_close(actual.part("language").features[1, :4], model(x).part("language").features[1, :4])


def test_with_a_prefix_pictures_see_no_words_and_words_no_later_ones() -> None:
    model = tower()
    on = text((6, 6))
    whole = pair(on)
    x = Sequence(
        torch.cat((whole.features[:, 6:], whole.features[:, :6]), 1),
        (Part("vision", 0, 5, "first"), Part("language", 5, 6, "first", on)),
        whole.valid,
    )
    before = model(x, attention="prefix").features
    changed = x.features.clone()
    changed[:, 8] += 1  # the fourth word
    after = model(x.with_features(changed), attention="prefix").features
    same = (after == before).all(-1).all(0)
    assert same.tolist() == [True] * 8 + [False] * 3


def test_rows_of_the_bias_lie_as_vlmo_has_them() -> None:
    rows = BiasRows(14, 196)
    assert (rows.patches, rows.across, rows.texts, rows.total) == (729, 732, 734, 1126)
    picture, words = rows.of_picture(), rows.of_text(40)
    assert picture[0, 1] == 729 and picture[1, 0] == 730 and picture[0, 0] == 731
    assert picture[1, 1] == 13 * 27 + 13 and picture[1, 2] == picture[1, 1] - 1, "query minus key"
    assert words[0, 1] == 1123 and words[1, 0] == 1124 and words[0, 0] == 1125
    assert words[1, 1] == 734 + 194 and words[1, 2] == words[1, 1] + 1, "key minus query"


def test_columns_of_the_table_are_layers() -> None:
    model = tower(**PAIR)
    assert model.relative_bias is not None
    biases = model.relative_bias(pair().parts)
    index = model.relative_bias._index(pair().parts)
    for layer in range(3):
        expected = model.relative_bias.table[index][..., layer * 4 : (layer + 1) * 4].permute(2, 0, 1)
        assert torch.equal(biases[layer], expected)


@pytest.mark.parametrize(("before", "after"), [(27, 47), (27, 59), (7, 15), (15, 7)])
def test_another_size_of_picture_resizes_patches_alone(before: int, after: int) -> None:
    """The formula of BEiT's code, written out: a geometric line whose factor is found by bisection, then splines."""
    table = torch.randn(before**2 + 20, 3, dtype=torch.float64)
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        q = (low + high) / 2
        low, high = (low, q) if (1 - q ** (before // 2)) / (1 - q) > after // 2 else (q, high)
    line, step = [], 1.0
    for i in range(before // 2):
        line.append(step)
        step += q ** (i + 1)
    places = [*(-x for x in reversed(line)), 0.0, *line]
    new = torch.arange(-(after // 2), after // 2 + 1).double().numpy()
    resized = resize_distances(table[: before**2], before, after)
    for column in range(3):
        grid = table[: before**2, column].reshape(before, before).numpy()
        expected = torch.from_numpy(RectBivariateSpline(places, places, grid.T)(new, new).T.copy())
        assert_near(resized[:, column].reshape(after, after), expected)
    rest = BiasRows(1, 5).total - 1
    whole = torch.cat((table[: before**2], torch.randn(rest, 3, dtype=torch.float64)))
    actual = BiasTable(5).resized(whole, torch.empty(after**2 + rest, 3))
    assert torch.equal(actual[after**2 :], whole[before**2 :]), "the rows of words, across and of the CLS stay"


def test_hidden_patches_are_one_vector_in_their_places() -> None:
    model = PatchEmbedding(PatchEmbedding.Config(width=16, patch=8, size=32, mask_token=True))
    hidden = torch.zeros(2, 16, dtype=torch.bool)
    hidden[0, 3] = True
    picture = torch.randn(2, 3, 32, 32)
    plain, masked = model(Image(picture)).features, model(Image(picture), Mask(hidden)).features
    assert (plain != masked).any(-1).nonzero().tolist() == [[0, 4]]
    torch.testing.assert_close(masked[0, 4], model.mask_token + model.positions[4])


VLMO = ("inputs.image.size=32", "components.patches_of.patch=8")
TYPE = ("+graph.on_right=patches_of(image, type=1)", "+outputs.right=first(on_right)")


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        (["components.upper.experts=[vision, language]"],
         "`upper`: no expert is called `vision_language`", "experts: vision, language"),
        (["components.lower.experts=[vision, audio]"],
         "`lower`: no expert takes the part `language`", "experts: vision, audio"),
        (["components.lower.positions={use: relative, frame: 20}"],
         "`lower`: a text of 40 tokens is longer than the frame 20 of the relative table",
         "positions: {use: relative, frame: 40}"),
        (["components.patches_of.cls=none"],
         "`lower`: `positions: relative` needs a CLS before the positions of `vision`", "cls: first"),
        (['joint=upper(lower(join(vision=patches, language=words), attention="prefix"), expert="vision_language")'],
         "`upper`: `positions: relative` needs a CLS before the positions of `language`",
         'behind `attention="prefix"`'),
        (["components.lower.positions=learned"],
         "`lower`: a multiway tower has no table of positions", "positions: none"),
        (TYPE, "`patches_of`: `type=1` is none of 1 vectors, counted from 0", "types: 2"),
        ([TYPE[0].replace("type=1", "type=4"), TYPE[1]],
         "`patches_of`: `type=4` is none of 1 vectors, counted from 0", "types: 5"),
        (["components.upper.experts=[vision, language, vision_language, vision]"],
         "`upper`: `vision` is twice among the experts", "each modality has one"),
        (["components.upper.experts=[]"], "`experts` should have at least 1 item, not 0", ""),
        (["components.patches_of.patch=7"],
         "`patches_of`: patch 7 does not divide size 32", "patch: 4 or 8 for size 32"),
    ],
)  # fmt: skip
def test_mistakes_have_a_message(overrides: list[str], message: str, hint: str) -> None:
    written = {override.split("=")[0] for override in overrides}
    base = [override for override in VLMO if override.split("=")[0] not in written]
    with pytest.raises(BlueprintError) as caught:
        Blueprint.load("vlmo_base", overrides=[*base, *overrides]).check()
    actual = [problem for problem in caught.value.problems if problem.message == message]
    assert actual, [problem.message for problem in caught.value.problems]
    assert not hint or any(hint in line for line in actual[0].hints)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("half", "torch keeps this name for itself"),
        ("_modules", "torch keeps this name for itself"),
        ("a.b", "a name has letters, digits and `_`"),
        ("", "a name has letters, digits and `_`"),
    ],
)
def test_what_no_expert_can_be_called(name: str, why: str) -> None:
    experts = f"components.upper.experts=[vision, language, vision_language, '{name}']"
    with pytest.raises(BlueprintError) as caught:
        Blueprint.load("vlmo_base", overrides=[experts]).check()
    (problem,) = caught.value.problems
    assert problem.message == f"`upper`: no expert can be called `{name}`: {why}"
    assert problem.span is not None and problem.span.file == "command line"


@pytest.mark.parametrize("what", ["patches", "join(language=words, vision=patches)"], ids=["no text", "text first"])
def test_a_prefix_needs_a_text_behind_it(what: str) -> None:
    added = [f'+graph.looked=backbone({what}, attention="prefix")', "+outputs.looked=mean(looked)"]
    with pytest.raises(BlueprintError) as caught:
        Blueprint.load("beit3_base", overrides=added).check()
    (problem,) = caught.value.problems
    assert '`attention="prefix"` needs one text, as the last part of what comes in' in problem.message
    assert problem.span is not None and problem.hints


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("decoder_patches.patch=8", "`decoder_patches`: nothing reads `patch`: what comes in lies on a grid already"),
        ("decoder_patches.stem=convolution",
         "`decoder_patches`: nothing reads `stem`: what comes in lies on a grid already"),
        ("patches_of.bias=false",
         "`patches_of`: nothing reads `bias: false` with a convolutional stem, whose last map has a bias"),
    ],
)  # fmt: skip
def test_settings_of_patches_that_nothing_reads_are_refused(setting: str, message: str) -> None:
    with pytest.raises(BlueprintError) as caught:
        Blueprint.load("tiny/vlmo", overrides=[f"components.{setting}"]).check()
    (problem,) = caught.value.problems
    assert (problem.message, problem.span is not None) == (message, True)


def test_the_caret_of_an_unknown_expert_stands_under_its_name() -> None:
    override = 'joint=upper(lower(join(language=words, vision=patches)), expert="vison_language")'
    with pytest.raises(BlueprintError) as caught:
        Blueprint.load("vlmo_base", overrides=[override]).check()
    (problem,) = caught.value.problems
    assert problem.span is not None
    assert override[problem.span.column - 1 : problem.span.end_column - 1] == '"vison_language"'
    assert "experts: vision, language, vision_language" in problem.hints


def test_relative_positions_know_pictures_on_a_grid_and_texts_alone() -> None:
    pooled = 'joint=upper(lower(join(language=words, vision=few(lower(patches)))), expert="vision_language")'
    overrides = ["+components.few={use: attention_pooler, queries: 4, heads: 12}", pooled]
    with pytest.raises(BlueprintError) as caught:
        Blueprint.load("vlmo_base", overrides=overrides).check()
    actual = [problem for problem in caught.value.problems if "knows pictures on a grid and texts" in problem.message]
    assert actual and actual[0].span is not None and "`vision` is neither" in actual[0].message
