"""`start`: weights from files, part by part, first match first, and nothing passed over in silence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from compose_vlp.blueprint.sections import Start
from compose_vlp.errors import UserError
from compose_vlp.interop.start import Component, Started, start
from compose_vlp.values.tables import ImageTable, TextTable
from tests.support import assert_near


class Tower(nn.Module):
    def __init__(self, words: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, 3)
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
        self.norm = nn.BatchNorm1d(3)


def two_towers(words: int = 6) -> dict[str, Component]:
    return {name: Component(Tower(words), "tower", "embedding.weight") for name in ("vision", "text")}


def items(*written: dict[str, Any]) -> list[Start]:
    return [Start.model_validate(item) for item in written]


def put(tmp_path: Path, tensors: dict[str, torch.Tensor], name: str = "w.safetensors") -> str:
    save_file({n: t.contiguous() for n, t in tensors.items()}, tmp_path / name)
    return str(tmp_path / name)


def bring(components: dict[str, Component], *written: dict[str, Any]) -> Started:
    return start(components, items(*written))


def weights(seed: int, words: int = 6) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {n: torch.rand_like(t) if t.is_floating_point() else t for n, t in Tower(words).state_dict().items()}


def test_one_component_is_filled_and_the_rest_is_new(tmp_path: Path) -> None:
    towers, file = two_towers(), put(tmp_path, weights(1))
    before = towers["text"].module.state_dict()["layers.0.weight"].clone()
    notes = bring(towers, {"from": file, "to": ("vision",)}, {"new": ("**",)})
    for name, tensor in weights(1).items():
        assert torch.equal(towers["vision"].module.state_dict()[name], tensor)
    assert torch.equal(towers["text"].module.state_dict()["layers.0.weight"], before)
    assert set(notes.filled.values()) == {file}
    assert all(name.startswith("text.") for name in notes.new)
    assert notes.lines()[0] == f"10 weights of vision from {file}"


def test_parameters_stay_parameters(tmp_path: Path) -> None:
    towers = two_towers()
    parameter = towers["vision"].module.layers[0].weight
    bring(towers, {"from": put(tmp_path, weights(1)), "to": ("vision", "text")})
    assert towers["vision"].module.layers[0].weight is parameter
    assert parameter.requires_grad
    assert parameter.grad_fn is None


def test_the_first_item_that_has_a_weight_gives_it(tmp_path: Path) -> None:
    towers = two_towers()
    norms = {name: t for name, t in weights(2).items() if name.startswith("norm")}
    first, second = put(tmp_path, norms, "first.safetensors"), put(tmp_path, weights(3), "second.safetensors")
    notes = bring(towers, {"from": first, "to": ("*",)}, {"from": second, "to": ("*",)})
    assert notes.filled["text.norm.weight"] == first
    assert notes.filled["text.layers.1.bias"] == second
    assert torch.equal(towers["text"].module.norm.weight.detach(), weights(2)["norm.weight"])


def test_new_before_a_file_keeps_a_part_out_of_it(tmp_path: Path) -> None:
    towers = two_towers()
    fresh = towers["vision"].module.embedding.weight.detach().clone()
    notes = bring(towers, {"new": ("**.embedding",)}, {"from": put(tmp_path, weights(1)), "to": ("**",)})
    assert torch.equal(towers["vision"].module.embedding.weight.detach(), fresh)
    assert notes.new == ["vision.embedding.weight", "text.embedding.weight"]


def test_a_part_alone_is_filled_and_the_rest_of_the_file_is_told(tmp_path: Path) -> None:
    towers, file = two_towers(), put(tmp_path, weights(1))
    notes = bring(towers, {"from": file, "to": ("vision.layers.1",)}, {"new": ("**",)})
    assert notes.filled.keys() == {"vision.layers.1.weight", "vision.layers.1.bias"}
    assert "layers.0.weight" in notes.unused[file]
    assert any(line.startswith(f"left over in {file}: ") and "layers.0.weight" in line for line in notes.lines())


def test_a_whole_model_is_filled_from_names_with_components(tmp_path: Path) -> None:
    whole = {f"components.{c}.{n}": t for i, c in enumerate(("vision", "text")) for n, t in weights(i).items()}
    whole["losses.itc.scale"] = torch.ones(1)
    towers, file = two_towers(), put(tmp_path, whole)
    notes = bring(towers, {"from": file})
    assert torch.equal(towers["text"].module.state_dict()["layers.0.weight"], weights(1)["layers.0.weight"])
    assert notes.unused[file] == ("losses.itc.scale",)
    towers = two_towers()
    bring(towers, {"from": file, "to": ("vision",)}, {"new": ("text",)})
    assert torch.equal(towers["vision"].module.state_dict()["layers.0.weight"], weights(0)["layers.0.weight"])


def test_shared_weights_need_to_be_given_once(tmp_path: Path) -> None:
    towers = two_towers()
    towers["text"].module.embedding.weight = towers["vision"].module.embedding.weight
    file = put(tmp_path, {f"vision.{n}": t for n, t in weights(1).items()})
    notes = bring(towers, {"from": file}, {"new": ("text.layers", "text.norm")})
    assert "text.embedding.weight" not in notes.new


def test_more_tokens_than_the_file_has_start_anew_and_are_told(tmp_path: Path) -> None:
    towers, file = two_towers(words=8), put(tmp_path, weights(1))
    fresh = towers["text"].module.embedding.weight.detach()[6:].clone()
    notes = bring(towers, {"from": file, "to": ("**",)})
    table = towers["text"].module.embedding.weight.detach()
    assert torch.equal(table[:6], weights(1)["embedding.weight"])
    assert torch.equal(table[6:], fresh)
    assert f"text.embedding.weight: 2 tokens more than in {file} start anew" in notes.lines()


def test_half_precision_files_fill_full_precision_weights(tmp_path: Path) -> None:
    towers = two_towers()
    half = {name: t.half() if t.is_floating_point() else t for name, t in weights(1).items()}
    bring(towers, {"from": put(tmp_path, half), "to": ("**",)})
    assert towers["text"].module.norm.weight.dtype == torch.float32


def test_a_folder_of_shards_is_one_file(tmp_path: Path) -> None:
    (first, *rest) = weights(1).items()
    put(tmp_path, dict([first]), "model-1.safetensors")
    put(tmp_path, dict(rest), "model-2.safetensors")
    index = {first[0]: "model-1.safetensors", **{name: "model-2.safetensors" for name, _ in rest}}
    (tmp_path / "model.safetensors.index.json").write_text(f'{{"weight_map": {str(index).replace(chr(39), chr(34))}}}')
    assert len(bring(two_towers(), {"from": str(tmp_path), "to": ("**",)}).filled) == 20


# --- mistakes ----------------------------------------------------------------------------------------------------


def hints_of(caught: pytest.ExceptionInfo[UserError]) -> str:
    return "\n".join(caught.value.problems[0].hints)


def test_a_weight_that_nothing_gives_is_an_error_with_what_the_file_had_left(tmp_path: Path) -> None:
    renamed = {name.replace("norm.", "ln."): t for name, t in weights(1).items()}
    with pytest.raises(UserError, match=r"no file has a weight for vision\.norm\.weight") as caught:
        bring(two_towers(), {"from": put(tmp_path, renamed), "to": ("vision",)}, {"new": ("text",)})
    assert "has left over: ln." in hints_of(caught)
    assert '"vision.norm.**"' in hints_of(caught)


def test_other_shapes_are_listed_with_both(tmp_path: Path) -> None:
    wide = {n: torch.ones(5, 5) if n == "layers.0.weight" else t for n, t in weights(1).items()}
    with pytest.raises(UserError, match="1 weight of `text` has another shape or type") as caught:
        bring(two_towers(), {"from": put(tmp_path, wide), "to": ("text",)})
    assert "text.layers.0.weight is [3, 3] here and [5, 5] in" in hints_of(caught)


def test_fewer_tokens_than_the_file_has_is_another_shape(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="other shape") as caught:
        bring(two_towers(words=4), {"from": put(tmp_path, weights(1)), "to": ("text",)})
    assert "text.embedding.weight is [4, 3] here and [6, 3] in" in hints_of(caught)


@pytest.mark.parametrize(("key", "pattern"), [("to", "visoin"), ("new", "visoin")])
def test_a_pattern_that_names_nothing_is_answered_with_the_nearest(tmp_path: Path, key: str, pattern: str) -> None:
    item = {"from": put(tmp_path, weights(1)), "to": (pattern,)} if key == "to" else {"new": (pattern,)}
    with pytest.raises(UserError, match=f"`{key}: visoin` names no weight") as caught:
        bring(two_towers(), item)
    assert "'vision'" in hints_of(caught)


def test_an_unknown_format_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no format is called 'tim'") as caught:
        bring(two_towers(), {"from": put(tmp_path, weights(1)), "as": "tim", "to": ("text",)})
    assert "'timm'" in hints_of(caught)


def test_a_format_for_another_kind_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="format 'timm' fills no 'tower'") as caught:
        bring(two_towers(), {"from": put(tmp_path, weights(1)), "as": "timm", "to": ("text",)})
    assert "formats for it: ours" in hints_of(caught)


def test_a_file_of_one_component_needs_to(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fills one component: say which, by `to`"):
        bring(two_towers(), {"from": put(tmp_path, weights(1)), "as": "timm"})
    with pytest.raises(UserError, match="has no weight of this model by our names"):
        bring(two_towers(), {"from": put(tmp_path, weights(1))})


def test_a_file_of_nothing_known_shows_both_sides(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="are of no format that is known for a 'tower'") as caught:
        bring(two_towers(), {"from": put(tmp_path, {"stem.conv": torch.ones(1)}), "to": ("text",)})
    assert "the file has: stem.conv" in hints_of(caught)
    assert "the component has: embedding.weight" in hints_of(caught)


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"layers.0.weight": Evil()}, "evil.pt")
    with pytest.raises(UserError, match=r"asks for \w+\.system: a file of anything but tensors is not opened"):
        bring(two_towers(), {"from": "evil.pt", "to": ("text",)})
    assert not Path("ran").exists()


def test_a_folder_without_safetensors_offers_its_files(tmp_path: Path) -> None:
    torch.save(weights(1), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"has none of model\.safetensors") as caught:
        bring(two_towers(), {"from": str(tmp_path), "to": ("text",)})
    assert "pytorch_model.bin" in hints_of(caught)
    notes = bring(two_towers(), {"from": str(tmp_path / "pytorch_model.bin"), "to": ("**",)})
    assert len(notes.filled) == 20


@pytest.mark.parametrize("index", ["no json", "[]", '{"weight_map": {"a": "../outside.safetensors"}}'])
def test_a_broken_index_is_refused(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UserError, match=r"is no index of weights|names a file outside its folder"):
        bring(two_towers(), {"from": str(tmp_path), "to": ("text",)})


# --- teachers ---------------------------------------------------------------------------------------------------


def with_teacher() -> dict[str, Component]:
    return two_towers() | {"slow.vision": Component(Tower(), "tower", "embedding.weight", teacher="slow")}


def test_a_teacher_starts_as_a_copy_where_no_file_has_it(tmp_path: Path) -> None:
    file = put(tmp_path, {f"{part}.{n}": t for part in ("vision", "text") for n, t in weights(1).items()})
    notes = bring(with_teacher(), {"from": file})
    assert not any(name.startswith("slow.") for name in notes.filled)
    assert notes.new == []


def test_everything_new_does_not_mean_a_teacher() -> None:
    notes = bring(with_teacher(), {"new": ("**",)})
    assert not any(name.startswith("slow.") for name in notes.new)


@pytest.mark.parametrize("home", ["slow.vision.", "teachers.slow.vision."])
def test_a_teacher_is_filled_from_a_file_that_has_it(tmp_path: Path, home: str) -> None:
    towers = with_teacher()
    own = {f"{part}.{n}": t for part in ("vision", "text") for n, t in weights(1).items()}
    bring(towers, {"from": put(tmp_path, own | {f"{home}{n}": t for n, t in weights(2).items()})})
    for name, tensor in weights(2).items():
        assert torch.equal(towers["slow.vision"].module.state_dict()[name], tensor)


def test_half_a_teacher_is_a_mistake(tmp_path: Path) -> None:
    own = {f"{part}.{n}": t for part in ("vision", "text") for n, t in weights(1).items()}
    half = {"slow.vision.embedding.weight": torch.ones(6, 3)}
    with pytest.raises(UserError, match=r"no file has a weight for slow\.vision"):
        bring(with_teacher(), {"from": put(tmp_path, own | half)})


# --- positions of another size ----------------------------------------------------------------------------------


class Placed(nn.Module):
    def __init__(self, positions: int, *, image: bool) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(positions, 3))
        if image:
            self.cls = nn.Parameter(torch.zeros(3))


def text(positions: int, last: int = 0) -> Component:
    return Component(Placed(positions, image=False), "tower", tables={"positions": TextTable(last)})


@pytest.mark.parametrize("to", [{}, {"to": ("vision",)}, {"to": ("vision",), "of": "eye"}])
def test_a_grid_of_another_size_is_resized_and_its_cls_kept(tmp_path: Path, to: dict[str, Any]) -> None:
    tower = Component(Placed(1 + 16, image=True), "tower", tables={"positions": ImageTable(first=1)})
    table = torch.cat((torch.full((1, 3), 7.0), torch.ones(4, 3)))
    there = to.get("of", "vision")
    file = put(tmp_path, {f"{there}.positions": table, f"{there}.cls": torch.ones(3)})
    notes = bring({"vision": tower}, {"from": file, **to})
    actual = tower.module.positions.detach()
    assert torch.equal(actual[0], table[0])
    assert_near(actual[1:], torch.ones(16, 3))
    assert any("2 x 2 patches resized to 4 x 4" in line for line in notes.lines())


def test_a_texts_positions_are_cut_and_never_made_up(tmp_path: Path) -> None:
    tower, table = text(5), torch.rand(8, 3)
    notes = bring({"text": tower}, {"from": put(tmp_path, {"text.positions": table})})
    assert torch.equal(tower.module.positions.detach(), table[:5])
    assert "text.positions: the first 5 of 8" in notes.lines()
    with pytest.raises(UserError, match="other shape"):
        bring({"text": text(9)}, {"from": str(tmp_path / "w.safetensors")})
    behind = text(5, last=1)
    bring({"text": behind}, {"from": str(tmp_path / "w.safetensors")})
    assert torch.equal(behind.module.positions.detach(), table[[0, 1, 2, 3, 7]]), "the CLS behind the words stays last"


class Corner:
    """A table of one's own: what is there stays in the corner."""

    def resized(self, table: Tensor, fresh: Tensor) -> Tensor:
        return torch.cat((table, fresh[len(table) :]))


def test_a_table_of_ones_own_is_resized_as_it_says(tmp_path: Path) -> None:
    tower, table = Component(Placed(5, image=False), "tower", tables={"positions": Corner()}), torch.rand(3, 3)
    notes = bring({"text": tower}, {"from": put(tmp_path, {"text.positions": table})})
    assert torch.equal(tower.module.positions.detach()[:3], table) and "text.positions: resized" in notes.lines()


def test_what_is_called_positions_and_is_no_table_keeps_its_shape(tmp_path: Path) -> None:
    file = put(tmp_path, {"text.positions": torch.rand(8, 3)})
    with pytest.raises(UserError, match="other shape"):
        bring({"text": Component(Placed(5, image=False), "tower")}, {"from": file})


def test_a_key_of_the_item_chooses_among_the_models_of_a_checkpoint(tmp_path: Path) -> None:
    first, second = weights(1), weights(2)
    torch.save({"model": first, "model_ema": {f"module.{n}": t for n, t in second.items()}}, tmp_path / "a.pth")
    file = str(tmp_path / "a.pth")
    with pytest.raises(UserError, match="holds the weights of 2 models: model, model_ema"):
        bring(two_towers(), {"from": file, "to": ("vision",)}, {"new": ("**",)})
    towers = two_towers()
    notes = bring(towers, {"from": file, "in": "model_ema", "to": ("vision",)}, {"new": ("**",)})
    state = towers["vision"].module.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in second.items())
    assert set(notes.filled.values()) == {f"{file} (model_ema)"}
    with pytest.raises(ValidationError, match="`new` stands alone"):
        Start.model_validate({"new": ["**"], "in": "model"})


def test_what_lightning_puts_before_all_names_is_taken_off(tmp_path: Path) -> None:
    state = weights(3)
    for prefix in ("model.", "net.", "_orig_mod.model."):
        towers = two_towers()
        bring(towers, {"from": put(tmp_path, {f"{prefix}{n}": t for n, t in state.items()}), "to": ("vision",)},
              {"new": ("**",)})  # fmt: skip
        filled = towers["vision"].module.state_dict()
        assert all(torch.equal(filled[name], tensor) for name, tensor in state.items())
