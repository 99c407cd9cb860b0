"""What can be known of a source before anything is learnt from it: that some record can be used, and that `fields` name
what records have."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from compose_vlp.data.mixture import Mixture
from compose_vlp.data.record_pictures import drawn_picture
from compose_vlp.data.renamed import Renamed
from compose_vlp.data.source import BadRecord, Record, Source
from compose_vlp.data.survey import spread_evenly
from compose_vlp.errors import UserError, did_you_mean

TRIED: Final = 40
"""Records that are tried until one can be used."""
LENIENT: Final = 0.5
"""A source that may have more broken records than this share may have them where they are tried, too."""


def refuse_unusable(source: Source, pictures: Collection[str]) -> None:
    """Refuse a source of which no record can be used: a run would break off at its first batch.

    As a rule the first record can, and no other is read.

    Args:
        source: the records.
        pictures: the fields that are read as pictures.

    Raises:
        UserError: all records that are tried are broken; guesses why.
    """
    from compose_vlp.data.diagnosis import why_nothing_is_used
    from compose_vlp.data.survey import survey

    if source.skip_limit > LENIENT or not len(source):  # none at all are too few for a batch
        return
    tried = _tried(source)
    reasons = []
    for index in tried:
        try:
            _read(source.record(index), pictures)
            return
        except BadRecord as error:
            reasons.append(str(error))
    guesses = why_nothing_is_used(source, survey(source, tried))
    guesses = [guess for guess in guesses if guess.partition(": ")[2] not in reasons[0]]
    raise UserError(
        f"no record can be used: all {len(tried)} that were tried are broken",
        hints=[*dict.fromkeys((reasons[0], *guesses)), "`compose-vlp data` looks a data set over"],
    )


def check_renamed(source: Source) -> None:
    """Refuse `fields` that give a name to what no record has: the name would be missing, or mean another field.

    Raises:
        UserError: it names the first such field, and offers those that there are.
    """
    if isinstance(source, Mixture):
        for part in source.sources:
            check_renamed(part)
    if not isinstance(source, Renamed):
        return
    check_renamed(source.source)
    lacking, known = dict(source.fields), list[str]()
    for record in _readable(source.source):
        known += [str(name) for name in record if name not in known]
        lacking = {name: field for name, field in lacking.items() if field not in record}
        if not lacking:
            return
    for name, field in lacking.items() if known else ():
        hints = [*did_you_mean(field, known), f"fields: {', '.join(known)}"]
        raise UserError(f"`fields` takes `{name}` from the field {field!r}, which the records do not have", hints=hints)


def _tried(source: Source) -> range:
    """Choose records all over the source, or where they are fetched in files, the first."""
    return range(min(TRIED, len(source))) if any(source.runs) else spread_evenly(len(source), TRIED)


def _readable(source: Source) -> Iterator[Record]:
    for index in _tried(source):
        try:
            yield source.record(index)
        except BadRecord:
            continue


def _read(record: Record, pictures: Collection[str]) -> None:
    for name in pictures:
        value = record.get(name)
        if value is not None:
            drawn_picture(value() if callable(value) else value, name)
