"""CLIP's byte pair encoding."""

import gzip
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from typing_extensions import override

from compose_vlp.components.tokenizers.cleaning import Clean
from compose_vlp.components.tokenizers.fast import FastTokenizer
from compose_vlp.errors import UserError
from compose_vlp.files import decoded, is_file, written_path
from compose_vlp.registry import Settings, tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
WORD_END = "</w>"
# CLIP's expression ignores case: so `'s` takes a long s too, and U+0345, an iota by case but no letter, is dropped.
WORDS = r"'[sſ]|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}\x{345}]+"
SIZE = 49408


@tokenizer("clip_bpe")
class ClipBytePairs(FastTokenizer):
    """CLIP's tokenizer, from its vocabulary file `bpe_simple_vocab_16e6.txt.gz`: the ids of OpenAI's and open_clip's.

    Without `file` the copy is taken that an installed `open_clip` carries. Where CLIP reads `<start_of_text>` written
    in a text as its begin token, the words are taken as words here. Pad is id 0, which is also the token `!`.
    """

    class Config(Settings):
        """Settings of the tokenizer."""

        vocab_size: int = Field(SIZE, ge=3, description="tokens, extra ones not counted; asserted")
        file: str | None = Field(None, description=f"path of {VOCABULARY}; open_clip's copy if left out")
        clean: Clean = Field("clip", description="what is done to a text first")
        tokens: tuple[str, ...] = Field((), description="extra tokens, with ids from the vocabulary's size on")
        begin: str | None = Field("<start_of_text>", description="first token of every text")
        end: str | None = Field("<end_of_text>", description="last token of every text")
        pad: str = Field("!", description="fills up a batch")
        mask: str | None = Field(None, description="stands for a hidden word")

    config: Config

    @staticmethod
    def describe(config: Config) -> Mapping[str, Any]:
        """Rows that an embedding of these tokens needs."""
        roles = {role: getattr(config, role) is not None for role in ("mask", "end")}
        return {"vocab_size": ClipBytePairs(config).vocab_size, **roles, "pieces": False}

    @property
    def ready(self) -> bool:
        return True

    @override
    def train(self, texts: Iterable[str]) -> None:
        raise UserError("clip_bpe has CLIP's vocabulary; `bpe` learns one from the corpus")

    def joined(self, ids: Sequence[int]) -> str:
        tokens = (self.backend.id_to_token(number) for number in ids)
        characters = "".join(token for token in tokens if token is not None).replace(WORD_END, " ")
        to_byte = {character: byte for byte, character in byte_characters().items()} | {" ": 32}
        return bytes(to_byte[character] for character in characters).decode("utf-8", errors="replace").strip()

    def _read(self) -> "Backend":
        from tokenizers import Regex, models, pre_tokenizers
        from tokenizers import Tokenizer as Backend

        merges = _read_merges(written_path(self.config.file) if self.config.file is not None else _installed())
        characters = list(byte_characters().values())
        tokens = [*characters, *(character + WORD_END for character in characters)]
        tokens += ["".join(pair) for pair in merges]
        tokens += ["<start_of_text>", "<end_of_text>"]
        vocabulary = {token: number for number, token in enumerate(tokens)}
        backend = Backend(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix=WORD_END))
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        return backend


def byte_characters() -> dict[int, str]:
    """A visible character for each byte, in the order of CLIP's vocabulary (GPT-2's `bytes_to_unicode`)."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + place) for place, byte in enumerate(hidden)}


def _installed() -> Path:
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise UserError(
            f"clip_bpe needs CLIP's vocabulary {VOCABULARY}",
            hints=[
                "`file:` names it; github.com/openai/CLIP has it in clip/, and the package open_clip_torch carries it"
            ],
        )
    return Path(package.origin).parent / VOCABULARY


def _read_merges(file: Path) -> list[tuple[str, str]]:
    """The merges of the file that CLIP uses: its first line is a title, and it holds more than are used."""
    if not is_file(file):
        raise UserError(f"no vocabulary file {str(file)!r}", hints=[f"looked from {Path.cwd()}"])
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        lines = decoded(raw).split("\n")
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not CLIP's vocabulary: {error}") from error
    pairs = [tuple(line.split()) for line in lines[1 : SIZE - 2 * 256 - 2 + 1]]
    if any(len(pair) != 2 for pair in pairs) or len(pairs) != SIZE - 2 * 256 - 2:
        raise UserError(f"{file} is not CLIP's vocabulary: {SIZE - 2 * 256 - 2} lines with two pieces were expected")
    return [(left, right) for left, right in pairs]
