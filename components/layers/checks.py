"""Settings that do not go together, and the nearest that do."""

from compose_vlp.components.layers.settings import TowerSettings
from compose_vlp.graph.kinds import Clash


def known(size: int | None) -> bool:
    """Has this inferred setting been told apart already?"""
    return size is not None


def heads_divide_width(config: object, *, width: str = "width", heads: str = "heads") -> tuple[Clash, ...]:
    """A clash where the width cannot be split evenly over the heads."""
    whole, parts = getattr(config, width), getattr(config, heads)
    if not known(whole) or whole % parts == 0:
        return ()
    near = nearest(parts, [n for n in range(1, whole + 1) if whole % n == 0])
    below, above = whole // parts * parts, (whole // parts + 1) * parts
    widths = " or ".join(str(n) for n in (below, above) if n > 0)
    return (
        Clash(
            f"{heads} {parts} does not divide {width} {whole}",
            (heads, width),
            (f"{heads}: {' or '.join(map(str, near))} for {width} {whole}", f"{width}: {widths} for {heads} {parts}"),
        ),
    )


def no_biases(config: TowerSettings) -> tuple[Clash, ...]:
    """A clash where positions are of a kind that biases scores, which a multiway tower alone can do."""
    if not config.biases_scores:
        return ()
    hints = ("`use: multiway_transformer` has them",)
    return (Clash(f"this tower gives its attention no bias for `{config.positions.use}`", ("positions",), hints),)


def nearest(wanted: int, working: list[int]) -> list[int]:
    """The largest working number below `wanted` and the smallest above it, where there are such."""
    below = [n for n in working if n < wanted]
    above = [n for n in working if n > wanted]
    return [*below[-1:], *above[:1]]
