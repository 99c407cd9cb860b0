"""A CoCa small enough to run in a second."""

from collections.abc import Callable

import pytest

from compose_vlp.api import Blueprint

SMALL = (
    "inputs.image.size=16",
    "components.vision.patch=8",
    "components.vision.stem=patch",
    "components.*.width=32",
    "components.*.mlp_width=48",
    "components.vision.depth=2",
    "components.pool_many.queries=5",
    "components.image_proj.out=24",
    "components.text_proj.out=24",
    "components.bpe.vocab_size=300",
    "inputs.caption.max_length=12",
)


@pytest.fixture(scope="session")
def small_coca() -> Callable[..., Blueprint]:
    """A blueprint of a few thousand weights, with more overrides as asked for."""

    def load(*overrides: str) -> Blueprint:
        chosen = [one for one in SMALL if not any(one.split("=")[0] == o.split("=")[0] for o in overrides)]
        return Blueprint.load("tiny/coca", overrides=[*chosen, *overrides])

    return load
