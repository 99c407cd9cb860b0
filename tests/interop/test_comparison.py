"""What counts as the same number, and that nothing passes by being left out."""

import math

import pytest
import torch

from compose_vlp.interop.comparison import Comparison, Outcome, compare, norms_of


def only(comparison: Comparison):
    assert len(comparison.rows) == 1
    return comparison.rows[0]


def value(ours: list[float], expected: list[float]):
    return only(compare(Outcome({"x": torch.tensor(ours)}), Outcome({"x": torch.tensor(expected)})))


@pytest.mark.parametrize(("error", "passed"), [(0.9e-5, True), (1.2e-5, False)])
def test_a_values_error_is_measured_against_the_tensors_norm(error: float, passed: bool) -> None:
    row = value([100.0 * (1 + error), 0.0], [100.0, 0.0])
    assert row.passed is passed
    assert row.error == pytest.approx(error, rel=0.2)


def rounded_otherwise(width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Products of matrices in float32, whose sums are taken in two orders, as two processors do."""
    x, w = torch.randn(64, width), torch.randn(width, 64)
    order = torch.randperm(width)
    return x @ w, x[:, order] @ w[order]


@pytest.mark.parametrize("width", [64, 768, 30522])
def test_another_order_of_sums_is_the_same_number_at_every_size(width: int) -> None:
    ours, recorded = rounded_otherwise(width)
    assert (ours - recorded).abs().div(recorded.abs()).max() > 1e-6, "elements do differ"
    expected = Outcome(
        {"x": recorded}, norms=norms_of({"x": recorded}), gradients={"x": recorded}, state={"x": recorded}
    )
    computed = Outcome({"x": ours}, norms=norms_of({"x": ours}), gradients={"x": ours}, state={"x": ours})
    assert compare(computed, expected).passed


@pytest.mark.parametrize("kind", ["values", "gradients", "state"])
def test_one_wrong_element_of_a_million_is_found(kind: str) -> None:
    recorded = torch.randn(1000, 1000)
    ours = recorded.clone()
    ours[3, 7] += 1
    row = only(compare(Outcome(**{kind: {"x": ours}}), Outcome(**{kind: {"x": recorded}})))
    assert not row.passed
    assert row.error == pytest.approx(1e-3, rel=0.01)


def test_a_wrong_zero_tensor_fails() -> None:
    assert not value([1e-12, 0.0], [0.0, 0.0]).passed
    assert value([0.0, 0.0], [0.0, 0.0]).passed


@pytest.mark.parametrize("ours", [[math.nan, 1.0], [math.inf, 1.0]])
def test_a_number_that_is_none_fails(ours: list[float]) -> None:
    assert not value(ours, [1.0, 1.0]).passed


def test_another_shape_fails_even_where_it_would_broadcast() -> None:
    row = only(compare(Outcome({"x": torch.ones(1)}), Outcome({"x": torch.ones(3)})))
    assert not row.passed
    assert row.note == "shape [1], wanted [3]"


def test_ids_have_to_be_equal() -> None:
    expected = Outcome({"ids": torch.tensor([[1, 2, 3]])})
    assert only(compare(Outcome({"ids": torch.tensor([[1, 2, 3]])}), expected)).passed
    row = only(compare(Outcome({"ids": torch.tensor([[1, 2, 4]])}), expected))
    assert (row.kind, row.passed, row.note) == ("ids", False, "1 of 3 differ")


@pytest.mark.parametrize(
    "expected",
    [
        Outcome({"x": torch.ones(2)}),
        Outcome(norms={"x": 1.0}),
        Outcome(gradients={"x": torch.ones(2)}),
        Outcome(state={"x": torch.ones(2)}),
    ],
)
def test_what_is_not_compared_has_failed(expected: Outcome) -> None:
    row = only(compare(Outcome(), expected))
    assert not row.passed
    assert row.note == "not compared"


def test_an_input_that_was_not_replayed_has_failed() -> None:
    assert not compare(Outcome(), Outcome(), unused=("masked_ids",)).passed


def test_nothing_to_compare_is_no_pass() -> None:
    assert not compare(Outcome(), Outcome()).passed


def test_a_gradient_of_rounding_passes_by_the_floor_and_is_listed() -> None:
    expected = Outcome(norms={"large": 10.0, "key.bias": 2e-7, "small": 1e-3})
    compared = compare(Outcome(norms={"large": 10.0005, "key.bias": 9e-6, "small": 1e-3}), expected)
    assert compared.passed
    assert [row.name for row in compared.by_floor] == ["key.bias"]
    assert compared.summary()["gradient norm"]["largest_error"] == pytest.approx(5e-5)


def test_a_whole_gradient_of_rounding_passes_by_the_floor_and_is_listed() -> None:
    expected = Outcome(norms={"large": 10.0}, gradients={"key.bias": torch.tensor([3e-8, 0.0]), "small": torch.ones(2)})
    ours = Outcome(norms={"large": 10.0}, gradients={"key.bias": torch.tensor([0.0, 9e-6]), "small": torch.ones(2)})
    compared = compare(ours, expected)
    assert compared.passed
    assert [row.name for row in compared.by_floor] == ["key.bias"]
    beyond = Outcome(norms={"large": 10.0}, gradients={**ours.gradients, "small": torch.full((2,), 1.0003)})
    assert [row.name for row in compare(beyond, expected).failures] == ["small"]


def test_a_gradient_norm_beyond_rate_and_floor_fails() -> None:
    expected = Outcome(norms={"large": 10.0, "bias": 2e-7})
    assert compare(Outcome(norms={"large": 10.002, "bias": 0.0}), expected).failures[0].name == "large"
    assert compare(Outcome(norms={"large": 10.0, "bias": 2e-5}), expected).failures[0].name == "bias"


def test_the_report_is_plain_values() -> None:
    expected = Outcome({"loss": torch.tensor(2.0), "ids": torch.tensor([1])}, losses=frozenset({"loss"}))
    report = compare(Outcome({"loss": torch.tensor(2.5)}), expected).as_json()
    assert report["passed"] is False
    assert report["failures"] == ["loss", "ids"]
    assert report["summary"]["loss"] == {"compared": 1, "passed": 0, "largest_error": pytest.approx(0.25)}


def test_norms_are_euclidean() -> None:
    assert norms_of({"w": torch.tensor([[3.0, 4.0]])}) == {"w": 5.0}
