"""Which names an expression reads."""

from __future__ import annotations

import pytest

from compose_vlp.blueprint.names import names_read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fusion(t, context=v)", ["fusion", "t", "v"]),
        ("matched(v=v[neg.image])", ["matched", "v", "neg"]),
        ("momentum.predicted", ["momentum"]),
        ('begin(caption, "[DEC] words")', ["begin", "caption"]),
        ("f('it''s', x)", ["f", "x"]),
        ("f(x=[a, b.c.d], y=$alpha, z=1e-4).cls", ["f", "a", "b", "alpha"]),
        ("join(vision=patches, language=words)", ["join", "patches", "words"]),
        ("f(\n  a,\n  from = b\n)", ["f", "a", "b"]),
        ("x.from", ["x"]),
        ("f(a.b(c=d))", ["f", "a", "d"]),
        ("größe(ü)", ["größe", "ü"]),
        ("768", []),
        ("f(a", ["f", "a"]),
    ],
)
def test_names_are_read_and_strings_arguments_fields_numbers_are_not(text: str, expected: list[str]) -> None:
    assert [read.name for read in names_read(text)] == expected


def test_a_read_knows_its_place_its_fields_and_whether_it_is_called() -> None:
    text = "softmax(  momentum.image.cls, $alpha)"
    called, world, param = names_read(text)
    assert called.called
    assert not world.called
    assert (text[world.start : world.end], world.fields) == ("momentum", ("image", "cls"))
    assert param.is_param
    assert text[param.start : param.end] == "$alpha"
