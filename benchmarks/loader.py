"""Records a second of the loader beside webdataset's and torch's own DataLoader, on the same shards.

All do the same to each record (decode, cut, flip, tokenize) and make the same kind of batches; what differs is how
records come out of tar files, in which order, and through which processes. They take turns, and the middle of the
rounds counts.

    python benchmarks/loader.py [--records 2000] [--workers 2] [--rounds 3]
"""

from __future__ import annotations

import argparse
import io
import statistics
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from compose_vlp.blueprint.inputs import parse_input
from compose_vlp.components.tokenizers.ids import Ids
from compose_vlp.data import open_source
from compose_vlp.data.collate import Collator
from compose_vlp.data.loader import Loader
from compose_vlp.data.source import Encoded

SHARDS = 8
BATCH = 32
INPUTS = {
    "image": parse_input({"type": "image", "size": 224, "augment": {"crop": [0.5, 1], "flip": 0.5}}),
    "caption": parse_input({"type": "text", "tokenizer": "ids", "max_length": 8}),
}
TOKENIZERS: Any = {"ids": Ids(Ids.Config(vocab_size=1000))}


class Files(Dataset[Any]):
    """The same records as files, which torch's DataLoader takes at random."""

    def __init__(self, folder: Path, records: int, collator: Collator) -> None:
        self.folder, self.records, self.collator = folder, records, collator

    def __len__(self) -> int:
        return self.records

    def __getitem__(self, index: int) -> list[Any]:
        caption = (self.folder / f"{index:06d}.txt").read_text()
        return self.collator.read({"image": self.folder / f"{index:06d}.jpg", "caption": caption}, 0, index)


def write_records(folder: Path, records: int) -> None:
    """Write pictures of 512 x 384 with a caption each, as files and in shards."""
    drawn = open_source({"use": "scenes", "size": 96})
    noise = np.random.default_rng(0)
    tars = [tarfile.open(folder / f"web-{number:03d}.tar", "w") for number in range(SHARDS)]  # noqa: SIM115 - closed below
    for index in range(records):
        pixels = np.asarray(Image.fromarray(drawn.record(index % 200)["image"]()).resize((512, 384))).astype(np.int16)
        grainy = np.clip(pixels + noise.integers(-12, 13, pixels.shape), 0, 255).astype(np.uint8)  # as photographs are
        buffer = io.BytesIO()
        Image.fromarray(grainy).save(buffer, "jpeg", quality=85)
        for kind, data in (("jpg", buffer.getvalue()), ("txt", f"{index} {index % 7}".encode())):
            (folder / f"{index:06d}.{kind}").write_bytes(data)
            member = tarfile.TarInfo(f"{index:06d}.{kind}")
            member.size = len(data)
            tars[index * SHARDS // records].addfile(member, io.BytesIO(data))
    for tar in tars:
        tar.close()


def ours(path: str, cache: Path, workers: int) -> Iterator[Any]:
    """Give batches of our loader, in a random order that can be gone on with."""
    source = open_source({"use": "webdataset", "path": path, "cache": str(cache), "at_once": 4})
    return iter(Loader(source, INPUTS, TOKENIZERS, batch=BATCH, workers=workers))


def webdatasets(folder: Path, workers: int) -> Iterable[Any]:
    """Give batches of webdataset's pipeline, shuffled by shard and in a buffer of 1,000 records."""
    import webdataset

    collator = Collator(INPUTS, TOKENIZERS, train=True)

    def read(sample: dict[str, Any]) -> list[Any]:
        picture = Encoded(sample["jpg"], sample["__key__"])
        return collator.read({"image": picture, "caption": sample["txt"].decode()}, 0, int(sample["__key__"]))

    shards = str(folder / f"web-{{000..{SHARDS - 1:03d}}}.tar")
    records = webdataset.WebDataset(shards, shardshuffle=SHARDS, seed=0, empty_check=False).shuffle(1000).map(read)
    return DataLoader(records.batched(BATCH, collation_fn=collator.stack), batch_size=None, num_workers=workers)


def torchs(folder: Path, records: int, workers: int) -> Iterable[Any]:
    """Give batches of torch's DataLoader over single files, in a random order."""
    collator = Collator(INPUTS, TOKENIZERS, train=True)
    files = Files(folder, records, collator)
    return DataLoader(files, BATCH, shuffle=True, num_workers=workers, collate_fn=collator.stack, drop_last=True)


def rate(batches: Iterable[Any], count: int) -> float:
    """Measure records a second over `count` batches, the first not counted: processes start before it."""
    stream = iter(batches)
    next(stream)
    began = time.perf_counter()
    got = sum(1 for _ in islice(stream, count))
    return got * BATCH / (time.perf_counter() - began)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing of requests."""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as place,
        ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=place)) as server,
    ):
        folder, count = Path(place), args.records // BATCH // 2
        write_records(folder, args.records)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        names = f"web-{{000..{SHARDS - 1:03d}}}.tar"
        store = f"http://127.0.0.1:{server.server_port}/{names}"
        candidates: dict[str, Callable[[], Iterable[Any]]] = {
            "ours, shards on disk": lambda: ours(str(folder / names), folder / "cache", args.workers),
            "ours, shards of a store, kept": lambda: ours(store, folder / "kept", args.workers),
            "webdataset, shards on disk": lambda: webdatasets(folder, args.workers),
            "torch DataLoader, single files": lambda: torchs(folder, args.records, args.workers),
        }
        rates: dict[str, list[float]] = {name: [] for name in candidates}
        for _ in range(args.rounds):
            for name, make in candidates.items():
                rates[name].append(rate(make(), count))
        server.shutdown()
    for name, measured in rates.items():
        spread = f"{min(measured):.0f} to {max(measured):.0f}"
        print(f"{name:34} {statistics.median(measured):8.0f} records/s   ({spread})")


if __name__ == "__main__":
    main()
