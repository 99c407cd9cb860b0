"""Several sources as one, each drawn from as often as its weight says."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping

from compose_vlp.data.source import BadRecord, Part, Record, Source
from compose_vlp.errors import UserError


class Mixture(Source):
    """What `mix: {coco: 1, web: 2}` makes of the sources that it names: here every third record is one of `coco`.

    The records of the parts stand one after the other, which is how they are evaluated. A training epoch has as many
    records as they have together; see `compose_vlp.data.sampler.Order` for what it takes of each. A mixture in a
    mixture is taken apart: its parts share its weight. The mixture's own `skip_limit` counts for it; that of a part
    counts where the part is read by itself, as `evaluate` and `data` do by `--data`.

    Args:
        sources: by name.
        weights: by the same names, above 0; only their proportions count.

    Raises:
        UserError: a weight so small that an epoch would have no record of its part.
    """

    def __init__(self, sources: Mapping[str, Source], weights: Mapping[str, float]) -> None:
        super().__init__(None)
        flat = list(_flat(sources, weights))
        self.names = [name for name, _, _ in flat]
        self.sources = [source for _, source, _ in flat]
        lengths = [len(source) for source in self.sources]
        self.firsts = [sum(lengths[:number]) for number in range(len(lengths))]
        self.count = sum(lengths)
        each = shares(self.count, [weight for _, _, weight in flat])
        for name, share in zip(self.names, each, strict=True):
            if share == 0:
                raise UserError(f"the weight of {name!r} is so small that an epoch of {self.count} records has none")
        self.parts = tuple(map(Part, self.names, self.firsts, lengths, each))
        self.runs = tuple(source.runs[0] if len(source.runs) == 1 else None for source in self.sources)
        self.decodes = any(source.decodes for source in self.sources)
        self.notes = tuple(f"{name}: {note}" for name, given in sources.items() for note in given.notes)

    def __len__(self) -> int:
        return self.count

    def record(self, index: int) -> Record:
        if not 0 <= index < self.count:
            raise IndexError(f"record {index} of {self.count}")
        number = bisect_right(self.firsts, index) - 1
        try:
            return self.sources[number].record(index - self.firsts[number])
        except BadRecord as error:
            raise BadRecord(f"{self.names[number]}: {error}") from error

    def fetch(self, index: int) -> None:
        number = bisect_right(self.firsts, index) - 1
        self.sources[number].fetch(index - self.firsts[number])

    def text_bytes(self, index: int, field: str) -> int | None:
        number = bisect_right(self.firsts, index) - 1
        return self.sources[number].text_bytes(index - self.firsts[number], field)


def shares(total: int, weights: list[float]) -> list[int]:
    """Compute whole numbers that add up to `total`, in the proportions of the weights (largest remainder)."""
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in exact]
    rest = sorted(range(len(exact)), key=lambda number: counts[number] - exact[number])
    for number in rest[: total - sum(counts)]:
        counts[number] += 1
    return counts


def _flat(sources: Mapping[str, Source], weights: Mapping[str, float]) -> Iterator[tuple[str, Source, float]]:
    whole = sum(weights.values())
    for name, source in sources.items():
        share = weights[name] / whole
        if isinstance(source, Mixture):
            for inner, inner_source, part in zip(source.names, source.sources, source.parts, strict=True):
                yield f"{name}.{inner}", inner_source, share * part.each_epoch / source.count
        else:
            yield name, source, share
