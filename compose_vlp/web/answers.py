"""What the page can ask a model: a text of a picture, how well texts fit it, and where in it a text is seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from threading import Lock
from typing import Any, Final

from compose_vlp.capfilt.judges import Judge, judge_of
from compose_vlp.data.source import BadRecord, shown
from compose_vlp.errors import UserError
from compose_vlp.evaluation.batches import picture_and_text
from compose_vlp.evaluation.explaining import explain
from compose_vlp.evaluation.page import picture_uri
from compose_vlp.run import Output
from compose_vlp.runtime.inference.explained import relevance_of
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.inference.served_requests import pictures_of_request, rows_of_request, text_of_request

ASKS: Final = ("write", "fit", "heat")


class Answers:
    """A model behind the page; one question is answered at a time, whoever asks.

    `writers` are the outputs that write or choose a text of one picture, with the field of the text that they read
    besides (None: of the picture alone); `judge` says how well a text fits, `explains` whether a map can be made.

    Raises:
        UserError: the model can do none of this.
    """

    def __init__(self, asker: Asker) -> None:
        self.asker = asker
        self.writers = _writers(asker)
        self.judge = _judge(asker)
        self.explains = _explains(asker)
        self._lock = Lock()
        if not (self.writers or self.judge or self.explains):
            name = asker.blueprint.name
            raise UserError(f"no output of {name} is about one picture: there is nothing that a page could ask")

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a question of the page: `ask`, `picture` in base64, and `output`, `text` or `texts`.

        Raises:
            UserError: it is no such question, or larger than the limits.
        """
        ask = request.get("ask")
        if ask not in ASKS:
            raise UserError(f"ask is {shown(ask)}, not one of {', '.join(ASKS)}")
        given = request.get("picture")
        if not isinstance(given, str):
            raise UserError("there is no picture")
        (picture,) = pictures_of_request([given], None)
        with self._lock:
            if ask == "write":
                return {"text": self._written(picture, request)}
            return self._fit(picture, request) if ask == "fit" else self._heat(picture, request)

    def _written(self, picture: Any, request: Mapping[str, Any]) -> str:
        name = request.get("output")
        if not isinstance(name, str) or name not in self.writers:
            raise UserError(f"{shown(name)} is no output that writes; there are {', '.join(self.writers) or 'none'}")
        image, text = self.writers[name]
        given: dict[str, Any] = {image: [picture]} | ({text: [_text(request)]} if text is not None else {})
        (written,) = Output(self.asker, name)(**given)
        return str(written)

    def _fit(self, picture: Any, request: Mapping[str, Any]) -> dict[str, Any]:
        texts = request.get("texts")
        if self.judge is None:
            raise UserError("this model does not say how well a text fits")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise UserError("texts is no list of texts")
        rows_of_request({"texts": texts})
        texts = [text_of_request("texts", text) for text in texts]
        try:
            read = self.judge.read({self.judge.image: picture})
        except BadRecord as error:
            raise UserError(str(error)) from error
        (scores,) = self.judge.scores([read], [texts])
        finite = [score if score is not None and math.isfinite(score) else None for score in scores]  # JSON has no nan
        rows = list(zip(texts, finite, strict=True))
        rows.sort(key=lambda row: -math.inf if row[1] is None else row[1], reverse=True)
        return {"by": self.judge.by, "scores": [{"text": text, "score": score} for text, score in rows]}

    def _heat(self, picture: Any, request: Mapping[str, Any]) -> dict[str, Any]:
        if not self.explains:
            raise UserError("nothing of this model can be explained")
        explained = explain(self.asker, picture, _text(request))
        return {"picture": picture_uri(explained.pictures()[0][1])}


def _text(request: Mapping[str, Any]) -> str:
    text = request.get("text")
    if not isinstance(text, str) or not text.strip():
        raise UserError("there is no text")
    return str(text_of_request("text", text))


def _writers(asker: Asker) -> dict[str, tuple[str, str | None]]:
    writers: dict[str, tuple[str, str | None]] = {}
    for name, output in asker.blueprint.outputs.items():
        types = asker.types_read(name)
        images = [field for field, kind in types.items() if kind == "image"]
        texts = [field for field, kind in types.items() if kind == "text"]
        if output.form in ("generate", "rank") and len(images) == 1 and len(texts) < 2 and len(types) == 1 + len(texts):
            writers[name] = images[0], next(iter(texts), None)
    return writers


def _judge(asker: Asker) -> Judge | None:
    try:
        return judge_of(asker, "page", threshold=-1.0)  # nothing is kept or left out by it here
    except UserError:
        return None


def _explains(asker: Asker) -> bool:
    try:
        chosen, name = relevance_of(asker)
        picture_and_text(chosen, name, "this gives a picture and a text")
    except UserError:
        return False
    return True
