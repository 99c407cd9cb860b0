"""What is asked of a run of CapFilt, and how its records are shared out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from compose_vlp.errors import UserError

Texts: TypeAlias = Literal["both", "web", "synthetic"]
Form: TypeAlias = Literal["jsonl", "webdataset"]

BLOCK: Final = 256
"""Records of a block: what is done again at most where a process was killed, and a shard of the form `webdataset`."""


@dataclass(frozen=True)
class Settings:
    """What is judged, and what becomes of it.

    Attributes:
        texts: whose texts are judged: the web's, synthetic ones, or both.
        captions: synthetic texts a picture.
        seed: where the draws of synthetic texts start.
        form: `jsonl`, a file of lines beside a folder of pictures, or `webdataset`, tar shards.
        block: records that are done, or not, as one.
    """

    texts: Texts = "both"
    captions: int = 1
    seed: int = 0
    form: Form = "jsonl"
    block: int = BLOCK


@dataclass(frozen=True)
class Shard:
    """The part of the blocks that one of `count` processes does: every `count`-th, from `number` on."""

    number: int = 0
    count: int = 1

    @classmethod
    def read(cls, text: str) -> Shard:
        """Read a part as it is written, `0/2`.

        Raises:
            UserError: it is not written so, or there is no such part.
        """
        number, slash, count = text.partition("/")
        if not slash or not number.isdecimal() or not count.isdecimal() or int(number) >= int(count):
            raise UserError(
                f"`{text}` is no part of the work", hints=["`0/2` and `1/2` are the two halves, counted from 0"]
            )
        return cls(int(number), int(count))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def blocks(self, of: int) -> range:
        """Return the numbers of this part's blocks."""
        return range(self.number, of, self.count)
