"""`recompute`: what may be named, how an amount of memory chooses, and what a run says of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.reader import read_text
from compose_vlp.blueprint.scalars import read_memory
from compose_vlp.blueprint.sections import Distribute
from compose_vlp.blueprint.structure import check_structure
from compose_vlp.compiler import memory_plan
from compose_vlp.compiler.memory_plan import ways_out
from compose_vlp.errors import BlueprintError, UserError
from compose_vlp.evaluation.results import ready
from compose_vlp.readiness import look_over
from compose_vlp.runtime.memory import StageMemory, recompute_of_stage
from compose_vlp.runtime.stage import recompute_setting
from tests.runtime.test_training import STEPS, Watch, train
from tests.support import ASKING
from tests.tiny_papers import tiny_paper

Load = Callable[..., Blueprint]
MB = 10**6
LATER = "+stages.later={data: pairs, losses: [captioning], batch: 4, length: 2 steps, freeze: [vision]"


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        (("recompute=[visoin]",), "`recompute` names no component: `visoin`", "did you mean 'vision'"),
        (("recompute=[vision.layers]",), "names no component: `vision.layers`", "did you mean 'vision'"),
        (("recompute=[image_proj]",), "cannot be of `image_proj`, which has no layers that repeat", "with layers: "),
        (("recompute=[vision, vision]",), "`vision` stands twice", None),
        (("recompute=[vision]", "freeze=[vision]"), "nothing for a backward in stage `pretrain`", "unimodal"),
        (("stages.pretrain.recompute=[vision]", "freeze=[vision]"), "in stage `pretrain`", "multimodal"),
        (("recompute=[60 GB]",), "`recompute` names no component: `60 GB`", "components: "),
        (("recompute=60",), "expected an amount of memory such as `60 GB`", None),
        (("recompute=60 GX",), "expected an amount of memory such as `60 GB`", None),
        (("recompute=0 GB",), "expected more memory than none", None),
        (("recompute={vision: true}",), "`recompute` holds", None),
    ],
)
def test_what_could_not_be_obeyed_is_refused_at_its_place(
    small_coca: Load, changes: tuple[str, ...], message: str, hint: str | None
) -> None:
    with pytest.raises(BlueprintError) as raised:
        small_coca(*changes).check()
    problem = next(each for each in raised.value.problems if message in each.message)
    assert problem.span is not None
    assert hint is None or hint in " ".join(problem.hints)


def test_other_frameworks_words_lead_here() -> None:
    (problem,) = check_structure(read_text("gradient_checkpointing: true\n", "f.yaml").root).problems
    assert problem.hints == ("it is called `recompute`: names of components, or an amount of memory",)


def test_a_component_that_keeps_a_state_in_its_layers_runs_once(small_coca: Load, tmp_path: Path) -> None:
    plugin = tmp_path / "kept.py"
    plugin.write_text(
        "from typing import Annotated\n"
        "from torch import nn\n"
        "from compose_vlp.protocols import Keeps\n"
        "from compose_vlp.registry import Settings, component, inferred\n"
        "from compose_vlp.values import Embedding\n\n\n"
        "@component('kept', rows='batch', state='kept', draws='none')\n"
        "class Kept(nn.Module, Keeps):\n"
        '    """Two blocks, and something that is remembered."""\n\n'
        "    class Config(Settings):\n"
        "        features: int = inferred(description='of a row')\n\n"
        "    def __init__(self, config: Config) -> None:\n"
        "        super().__init__()\n"
        "        blocks = [nn.Sequential(nn.Linear(config.features, config.features)) for _ in range(2)]\n"
        "        self.blocks = nn.ModuleList(blocks)\n\n"
        "    def commit(self) -> None:\n"
        "        pass\n\n"
        "    def forward(self, x: Annotated[Embedding, 'rows features']) -> Annotated[Embedding, 'rows features']:\n"
        "        return Embedding(self.blocks[1](self.blocks[0](x.features)))\n",
        encoding="utf-8",
    )
    changes = ("+components.keeper={use: kept}", "image_embedding=keeper(previous)", "recompute=[keeper]")
    with pytest.raises(BlueprintError, match="`keeper`, which keeps a state that a second forward would change"):
        small_coca(*changes, plugins=[plugin]).check()


def test_a_stage_stands_before_the_top_and_passes_over_what_it_does_not_train(small_coca: Load) -> None:
    checked = small_coca(LATER + "}", "recompute=[vision, unimodal]").check()
    assert recompute_of_stage(checked, "pretrain").names == ("vision", "unimodal")
    assert recompute_of_stage(checked, "later").names == ("unimodal",), "its pictures run without gradients"
    checked = small_coca(LATER + ", recompute: []}", "recompute=[vision]").check()
    assert recompute_of_stage(checked, "later").names == ()
    assert str(recompute_setting(small_coca("recompute=1.5 GiB").check(), "pretrain")) == "1.5 GiB"


def test_memory_takes_the_cheapest_components_and_no_more_than_it_needs() -> None:
    checked = tiny_paper("CoCa", "components.*.depth=4", batch=64).check()
    memory = StageMemory(checked, "pretrain", Distribute(use="ddp"), world=1, rows=64)
    whole, least = (memory.within(read_memory(amount)) for amount in ("1 TB", "1 MB"))
    assert whole.plan is not None and least.plan is not None
    assert whole.names == () and "since a process holds" in whole.reason and "of the 1 TB" in whole.reason
    assert set(least.names) == {"vision", "unimodal", "multimodal"} and "all the same" in least.reason
    between = (whole.plan.total + least.plan.total) // 2
    chosen = memory.within(read_memory(f"{between / MB:.6f} MB"))
    assert chosen.plan is not None and chosen.plan.total <= between
    assert 0 < len(chosen.names) < 3 and "so that a process holds" in chosen.reason
    for name in chosen.names:
        assert memory.plan("ddp", [other for other in chosen.names if other != name]).total > between


def test_too_little_memory_is_told_before_a_run_with_what_would_do(tmp_path: Path) -> None:
    blueprint = tiny_paper("CoCa", "stages.pretrain.recompute=1 MB", batch=16)
    with pytest.raises(BlueprintError) as raised:
        look_over(blueprint.check(), ready)
    problem, *others = raised.value.problems
    assert not others, others
    assert "even where all layers are computed again; `recompute: 1 MB` allows less" in problem.message
    enough = problem.hints[0].strip("`").replace("recompute: ", "recompute=")
    assert problem.span is not None
    look_over(tiny_paper("CoCa", enough, batch=16).check(), ready)
    assert Blueprint.load("tiny/coca", overrides=["recompute=1 MB"]).report().recompute["components"], "a build goes on"


def test_what_cannot_be_counted_cannot_be_chosen_by_memory(tmp_path: Path) -> None:
    plugin = tmp_path / "asking.py"
    plugin.write_text(ASKING, encoding="utf-8")
    changes = ("+components.asking={use: asking}", "image_embedding=asking(previous)")
    by_memory = Blueprint.load("tiny/coca", overrides=[*changes, "recompute=1 GB"], plugins=[plugin]).check()
    with pytest.raises(UserError, match="no layers can be chosen by memory") as raised:
        recompute_of_stage(by_memory, "pretrain")
    assert "may name components" in raised.value.problems[0].hints[0]
    by_name = Blueprint.load("tiny/coca", overrides=[*changes, "recompute=[vision]"], plugins=[plugin]).check()
    assert recompute_of_stage(by_name, "pretrain").names == ("vision",)


def test_a_card_that_is_too_small_is_told_what_to_recompute(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is proposed fits; where it does not suffice alone, it is proposed with pieces."""
    small = Blueprint.load("tiny/coca")
    (plan,) = small.memory()
    monkeypatch.setattr(memory_plan, "CARDS", {"middle": int(0.8 * plan.total), "small": int(0.4 * plan.total)})
    (middle,) = small.memory(card="middle")
    (way,) = [way for way in ways_out(middle, [middle]) if "recompute" in way]
    change = way.split("`")[1]
    (again,) = Blueprint.load("tiny/coca", overrides=[change]).memory(card="middle")
    assert middle.fits is False and again.fits and middle.as_json()["smaller"]["fits"]
    (little,) = small.memory(card="small")
    both = r"recompute=\[vision, unimodal, multimodal\]` with `stages.pretrain.accumulate=\d+` under ddp"
    assert any(re.search(both, way) for way in ways_out(little, [little]))


def test_a_run_says_what_it_computes_again_and_learns_the_same(small_coca: Load, tmp_path: Path) -> None:
    """Evaluation in between runs each layer once, and leaves training as it was."""
    evaluated = "stages.pretrain.evaluate={every: 2 steps, count: 4}"
    steps = ("stages.pretrain.length=3 steps", *STEPS[1:], "components.multimodal.dropout=0.1", evaluated)
    plain, again = Watch(), Watch()
    train(small_coca(*steps), tmp_path / "plain", plain)
    run = train(small_coca(*steps, "recompute=[vision, multimodal]"), tmp_path / "again", again)
    (note,) = [note for note in again.notes if note.startswith("computed again")]
    assert note == "computed again in the backward: vision (1 layer), multimodal (2 layers), as `recompute` names them"
    assert not any("computed again" in note for note in plain.notes)
    assert plain.totals == again.totals
    assert run.blueprint.settings["recompute"] == ("vision", "multimodal")
