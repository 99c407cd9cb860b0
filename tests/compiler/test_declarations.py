"""What kinds may declare, and that settings which say of noise are declared, not guessed by their names."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from compose_vlp import registry
from compose_vlp.api import Blueprint
from compose_vlp.compiler.noise import may_draw
from compose_vlp.errors import UserError
from compose_vlp.plugins import load_plugin

COMPONENT = """
from typing import Annotated
from torch import nn
from compose_vlp.registry import Settings, component, loss
from compose_vlp.values import Embedding, Logits, Scalar

@{decorator}
class Part(nn.Module):
    class Config(Settings):
        sigma: float = 1.0
    def __init__(self, config: Config) -> None:
        super().__init__()
    def forward(self, x: Annotated[{port}]) -> Annotated[{result}]:
        return x
    {more}
"""
EMBEDDING = {"port": "Embedding, 'rows width'", "result": "Embedding, 'rows width'"}
LOSS = {"port": "Logits, 'rows length classes'", "result": "Scalar, ''"}


def load(folder: Path, decorator: str, more: str = "") -> None:
    shape = LOSS if decorator.startswith("loss") else EMBEDDING
    file = folder / f"part_{abs(hash((decorator, more)))}.py"
    file.write_text(COMPONENT.format(decorator=decorator, more=more, **shape))
    load_plugin(file)


@pytest.mark.parametrize(
    ("decorator", "message", "hint"),
    [
        ('component("declared_a", rows="indep")', "no promise is rows='indep'", "independent"),
        ('component("declared_b", state="nothing")', "no promise is state='nothing'", "none"),
        ('component("declared_c", draws="dropout")', "no promise is draws='dropout'", "choice"),
        ('component("declared_d", context=True)', "no promise is context=True", "indexed"),
        ('component("declared_e", noise=("sigm",))', "'sigm', which is no setting", "sigma"),
        ('component("declared_f", context="indexed")', "has a method `keys_values(context)`", ""),
        ('component("vit", rows="independent")', "'vit' is a kind that is built in", ""),
        ('loss("next_token", rows="independent")', "'next_token' is a kind that is built in", ""),
        ('loss("declared_g", foretells="word")', "no promise is foretells='word'", "next"),
        ('loss("declared_h", selects=True)', "declared with selects=True", ""),
    ],
)
def test_a_promise_that_there_is_not_is_refused(tmp_path: Path, decorator: str, message: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, decorator)
    assert message in str(caught.value)
    assert hint in " ".join(caught.value.problems[0].hints)


def test_a_loss_with_a_method_that_it_does_not_declare_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="selects=True"):
        load(tmp_path, 'loss("declared_i")', "def selects(self, text): ...")


def test_a_kind_that_may_draw_draws_unless_the_settings_that_it_names_are_zero(tmp_path: Path) -> None:
    load(tmp_path, 'component("declared_j", draws="noise")')
    load(tmp_path, 'component("declared_k", draws="noise", noise=("sigma",))')
    load(tmp_path, 'component("declared_l", draws="none")')
    quiet, loud = SimpleNamespace(sigma=0, dropout=0), SimpleNamespace(sigma=1, dropout=0)
    kinds = [registry.get(f"declared_{letter}") for letter in "jkl"]
    assert [may_draw(kind, loud) for kind in kinds] == [True, True, False]
    assert [may_draw(kind, quiet) for kind in kinds] == [True, False, False]


def test_every_setting_of_a_built_in_kind_that_makes_noise_is_declared() -> None:
    for name in registry.names("component"):
        kind = registry.get(name)
        noisy = {setting for setting in kind.settings if "drop" in setting}
        if kind.source.startswith("compose_vlp.components.") and kind.traits.noise:
            assert set(kind.traits.noise) == noisy, name


def test_a_component_that_is_only_shared_from_needs_its_sizes() -> None:
    second = "{use: causal_decoder, cross_attention: true, depth: 2, heads: 4, share: {'*': multimodal}}"
    changes = (f"+components.second={second}", "graph.joint=second(words.tokens, context=visual)")
    with pytest.raises(UserError, match="`width` of `multimodal` follows from nothing here"):
        Blueprint.load("tiny/coca", overrides=changes).check()
    Blueprint.load("tiny/coca", overrides=[*changes, "components.multimodal.width=128"]).check()


@pytest.mark.parametrize(
    ("promise", "more", "message"),
    [
        ("", "def commit(self): ...", "nobody calls `commit` of a class that does not extend `Keeps`"),
        ("", "def after_step(self): ...", "nobody calls `after_step` of a class that does not extend `AfterStep`"),
        ("", "def layer_numbers(self): ...", "does not extend `CountsLayers`"),
        ('state="kept"', "", "extends `Keeps`, whose `commit` writes its state"),
        ("", "def check(self): ...", "`check` is called with settings before there is a module"),
        ("", "@staticmethod\n    def check(config, ports): ...", "`check` is called with config: missing"),
        ("", "@staticmethod\n    def check_batch(config): ...", "`check_batch` is called with config, rows: too many"),
        ("", "@staticmethod\n    def tabels(config): ...", "no hook is called `tabels`"),
        ("", "@staticmethod\n    def outputs(config, ports): ...", "no hook is called `outputs`"),
        ('layers="depht"', "", "`layers` names 'depht', which is no setting"),
        ("", "def forward(self, x: Annotated[Embedding, 'rows width'], *, at=None) -> Embedding: ...",
         "`at` of forward is given by programs, where the kind is declared with selects=True"),
        ("selects=True", "", "`at` of forward goes with selects=True"),
        ("selects=True", "def forward(self, x: Annotated[Embedding, 'rows width'], at=None) -> Embedding: ...",
         "programs give `at` by name alone"),
    ],
)  # fmt: skip
def test_what_nobody_would_call_is_refused(tmp_path: Path, promise: str, more: str, message: str) -> None:
    number = abs(hash((promise, more)))
    with pytest.raises(UserError) as caught:
        load(tmp_path, f'component("offers_{number}", {promise})', more)
    assert message in str(caught.value)
    assert caught.value.problems[0].span is not None, "the class is shown"


def test_helpers_with_names_of_their_own_are_no_hooks(tmp_path: Path) -> None:
    load(tmp_path, 'component("offers_helper")', "@staticmethod\n    def chunked(x): ...\n    def reset(self): ...")
    assert registry.get("offers_helper").check is None
