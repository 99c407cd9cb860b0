"""The embedded source: its pictures, and that all that is said of them is true."""

from __future__ import annotations

import pickle
import re
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest

from compose_vlp.data import Source, open_source
from compose_vlp.data.draws import Draws
from compose_vlp.data.scenes.noise import JUNK
from compose_vlp.data.scenes.paint import paint
from compose_vlp.data.scenes.questions import question
from compose_vlp.data.scenes.scoring import mentions, named_objects
from compose_vlp.data.scenes.wording import NUMBERS, caption, direction, location
from compose_vlp.data.scenes.world import COLOURS, SHAPES, Scene, Thing, draw_scene
from compose_vlp.errors import UserError


def scenes(**settings: Any) -> Source:
    return open_source({"use": "scenes", **settings})


def value(record: Any, field: str) -> Any:
    return record[field]() if callable(record[field]) else record[field]


def everything(source: Source, index: int) -> dict[str, Any]:
    record = source.record(index)
    return {field: value(record, field) for field in record}


def same(record: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        np.array_equal(record[f], other[f]) if isinstance(record[f], np.ndarray) else record[f] == other[f]
        for f in record
    )


SCENES = [draw_scene(Draws("test", i), 1, 6) for i in range(300)]


def test_a_record_is_the_same_however_it_is_reached() -> None:
    source = scenes(max_objects=4, noise=0.3)
    forwards = [everything(source, i) for i in range(8)]
    backwards = [everything(pickle.loads(pickle.dumps(source)), i) for i in reversed(range(8))]
    assert all(same(record, other) for record, other in zip(forwards, reversed(backwards), strict=True))


def test_seed_and_split_give_other_pictures() -> None:
    worlds = [scenes(), scenes(seed=1), scenes(split="unseen")]
    drawn = [{value(world.record(i), "scene") for i in range(500)} for world in worlds]
    assert not drawn[0] & drawn[1]
    assert not drawn[0] & drawn[2]


def test_length_and_noise_leave_the_other_records_as_they_are() -> None:
    plain, noisy = scenes(count=20), scenes(count=50, noise=1.0)
    assert [r["true_caption"] for r in map(plain.record, range(20))] == [
        r["true_caption"] for r in map(noisy.record, range(20))
    ]


def test_record_beyond_the_end_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        scenes(count=3).record(3)
    with pytest.raises(IndexError):
        scenes(count=3).record(-1)


def test_the_same_scene_at_any_size() -> None:
    small, large = paint(SCENES[0], 32), paint(SCENES[0], 256)
    assert small.shape == (32, 32, 3)
    assert small.dtype == np.uint8
    shrunk = large.reshape(32, 8, 32, 8, 3).mean((1, 3))
    assert np.abs(shrunk - small).mean() < 8
    assert np.abs(shrunk - paint(SCENES[1], 32)).mean() > 8


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_thing_has_its_colour_where_it_stands(colour: str, shape: str) -> None:
    thing = Thing(colour, shape, "large", 0.3, 0.6, 0.17)
    picture = paint(Scene((thing,), 220, (0.5, 0.5)), 64).astype(int)
    painted = np.abs(picture - np.array(COLOURS[colour])).sum(-1) < 12
    rows, columns = np.nonzero(painted)
    assert 0.02 < painted.mean() < 0.1
    assert abs(columns.mean() / 64 - 0.3) < 0.03
    assert abs(rows.mean() / 64 - 0.6) < 0.05


def test_things_at_the_edge_are_cut_and_not_wrapped() -> None:
    thing = Thing("red", "square", "large", 0.0, 1.0, 0.2)
    picture = paint(Scene((thing,), 220, (0, 0)), 64).astype(int)
    red = np.abs(picture - np.array(COLOURS["red"])).sum(-1) < 12
    assert red[-4:, :4].all()
    assert not red[:40].any()
    assert not red[:, 20:].any()


def test_shapes_are_told_apart_by_their_pixels() -> None:
    pictures = [paint(Scene((Thing("red", s, "small", 0.5, 0.5, 0.09),), 220, (0, 0)), 64).astype(int) for s in SHAPES]
    different = [np.abs(a - b).max(-1) > 90 for i, a in enumerate(pictures) for b in pictures[:i]]
    assert min(d.sum() for d in different) >= 12


def test_things_do_not_cover_each_other() -> None:
    for scene in SCENES:
        for i, a in enumerate(scene.things):
            for b in scene.things[:i]:
                assert np.hypot(a.x - b.x, a.y - b.y) > 0.8 * (a.radius + b.radius)


def test_pictures_come_fast_enough() -> None:
    source = scenes()
    for index in range(200):
        value(source.record(index), "image")
    began = time.process_time()
    for index in range(1000):
        value(source.record(index), "image")
    assert 1000 / (time.process_time() - began) > 1000, "pictures with captions a second of processor time"


# --- captions ---------------------------------------------------------------------------------------------------


def test_captions_name_every_thing_and_nothing_else() -> None:
    for index, scene in enumerate(SCENES):
        words = caption(scene, Draws(index))
        assert mentions(words) == Counter((t.colour, t.shape) for t in scene.things), words
        assert named_objects(words, scene) == 1.0


def test_captions_of_two_objects_say_where_and_how_large_truly() -> None:
    source = scenes()
    for index in range(300):
        record = source.record(index)
        words = record["caption"]
        first, second = sorted(record["scene"].things, key=lambda t: words.find(f"{t.colour} {t.shape}"))
        for thing in (first, second):
            size = re.search(rf"(\w+) {thing.colour} {thing.shape}", words)
            assert size is not None
            assert size[1] in {"small": ("small", "tiny"), "large": ("large", "big")}[thing.size]
        related = f"{first.colour} {first.shape} {direction(first, second)} a "
        placed = Counter((location(first), location(second)))
        assert related in words.replace(" is ", " ") or all(words.count(p) >= n for p, n in placed.items())


def test_captions_vary_and_few_pictures_share_one() -> None:
    source = scenes(split="unseen")
    captions = [source.record(i)["caption"] for i in range(1000)]
    assert len(set(captions)) > 990
    lengths = [len(words.split()) for words in captions]
    assert all(8 <= length <= 20 for length in lengths)
    assert len({caption(source.record(0)["scene"], Draws(i)) for i in range(60)}) > 20


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (0.9, 0.5, "to the right of"),
        (0.1, 0.55, "to the left of"),
        (0.5, 0.1, "above"),
        (0.45, 0.9, "below"),
        (0.9, 0.9, "to the lower right of"),
        (0.2, 0.2, "to the upper left of"),
    ],
)
def test_direction_is_seen_from_the_other_thing(x: float, y: float, expected: str) -> None:
    here = Thing("red", "star", "small", 0.5, 0.5, 0.1)
    assert direction(here._replace(x=x, y=y), here) == expected


# --- web-style noise --------------------------------------------------------------------------------------------


def test_noise_comes_at_its_rate_and_the_truth_is_known() -> None:
    source = scenes(noise=0.3)
    records = [source.record(i) for i in range(1500)]
    wrong = [r for r in records if not r["caption_right"]]
    assert 0.26 < len(wrong) / len(records) < 0.34
    for record in wrong:
        words = value(record, "caption")
        assert words != record["true_caption"]
        assert mentions(words) != Counter((t.colour, t.shape) for t in record["scene"].things)
    assert all(r["caption"] == r["true_caption"] for r in records if r["caption_right"])


def test_noise_is_junk_another_caption_or_a_wrong_detail() -> None:
    source = scenes(noise=1.0)
    shares: Counter[str] = Counter()
    for index in range(600):
        record = source.record(index)
        words = value(record, "caption")
        there = Counter((t.colour, t.shape) for t in record["scene"].things)
        kept = (mentions(words) & there).total()
        shares["junk" if not mentions(words) else "detail" if kept == 1 else "other"] += 1
    assert all(shares[kind] > 100 for kind in ("junk", "detail", "other")), shares
    assert len(JUNK) >= 5


# --- questions and statements -----------------------------------------------------------------------------------


def answer_by_looking(scene: Scene, text: str) -> str:
    """The answer to a question, worked out from the truth."""
    if match := re.fullmatch(r"what colour is the (\w+) \?", text):
        return next(t.colour for t in scene.things if t.shape == match[1])
    if match := re.fullmatch(r"what shape is the (\w+) thing \?", text):
        return next(t.shape for t in scene.things if t.colour == match[1])
    if match := re.fullmatch(r"what size is the (\w+) (\w+) \?", text):
        return next(t.size for t in scene.things if (t.colour, t.shape) == match.groups())
    if match := re.fullmatch(r"where is the (\w+) (\w+) \?", text):
        return next(location(t) for t in scene.things if (t.colour, t.shape) == match.groups()).split(" the ")[1]
    if match := re.fullmatch(r"is the (\w+) (\w+) left or right of the (\w+) (\w+) \?", text):
        x = {(t.colour, t.shape): t.x for t in scene.things}
        return "right" if x[match[1], match[2]] > x[match[3], match[4]] else "left"
    if match := re.fullmatch(r"how many (?:(\w+) )?(\w+) are there \?", text):
        shape = next((s for s in SHAPES if match[2] in (f"{s}s", f"{s}es") and s != "shape"), None)
        return NUMBERS[scene.count(match[1], shape)]
    match = re.fullmatch(r"is there an? (\w+) (\w+) \?", text)
    assert match is not None, text
    return "yes" if scene.count(*match.groups()) else "no"


def test_answers_are_right_and_their_weights_add_up() -> None:
    kinds = set()
    for index in range(3000):
        scene = SCENES[index % len(SCENES)]
        asked = question(scene, Draws("q", index))
        assert asked.best == max(asked.answers, key=lambda a: asked.answers[a])
        assert asked.best == answer_by_looking(scene, asked.text), asked
        assert sum(asked.answers.values()) == pytest.approx(1)
        kinds.add(" ".join(asked.text.split()[:2]))
    assert kinds == {"what colour", "what shape", "what size", "where is", "is the", "how many", "is there"}


def test_a_record_has_the_answer_that_most_annotators_give() -> None:
    records = [open_source({"use": "scenes"}).record(index) for index in range(200)]
    given = [(value(record, "answer"), value(record, "answers")) for record in records]
    assert all(answers[answer] == max(answers.values()) for answer, answers in given)
    assert any(len(answers) > 1 for _, answers in given)


def true_by_looking(scene: Scene, text: str) -> bool:
    """Whether a statement is true, worked out from the truth."""
    if match := re.fullmatch(r"there is an? (\w+) (\w+) in the picture", text):
        return scene.count(*match.groups()) > 0
    if match := re.fullmatch(r"there (?:is|are) exactly (\w+) (\w+) shapes?", text):
        return NUMBERS.index(match[1]) == scene.count(colour=match[2])
    if match := re.fullmatch(r"there (?:is|are) exactly (\w+) (\w+)", text):
        shape = next(s for s in SHAPES if match[2] in (s, f"{s}s", f"{s}es"))
        return NUMBERS.index(match[1]) == scene.count(shape=shape)
    match = re.fullmatch(r"the (\w+ \w+) is (.*)", text)
    assert match is not None, text
    things = {f"{t.colour} {t.shape}": t for t in scene.things}
    thing, rest = things[match[1]], match[2]
    if rest in ("small", "large"):
        return thing.size == rest
    if " the " in rest and rest.rsplit(" the ", 1)[1] in things:
        words, other = rest.rsplit(" the ", 1)
        right, down = thing.x - things[other].x, thing.y - things[other].y
        return {"to the right of": right > 0, "to the left of": right < 0, "above": down < 0, "below": down > 0}[words]
    return location(thing) == rest


def test_statements_are_as_true_as_they_say_and_half_of_them_are() -> None:
    source = scenes(min_objects=1, max_objects=6)
    labels = []
    for index in range(2000):
        record = source.record(index)
        text, right = value(record, "statement"), value(record, "statement_right")
        assert true_by_looking(record["scene"], text) == right, text
        labels.append(right)
    assert 0.46 < np.mean(labels) < 0.54


def pair_true_by_looking(left: Scene, right: Scene, text: str) -> bool:
    """Whether a sentence about two pictures is true, worked out from the truth."""

    def count(scene: Scene, word: str) -> int:
        shape = next((s for s in SHAPES if word in (s, f"{s}s", f"{s}es")), None)
        return scene.count(shape=shape) if shape else len(scene.things)

    if match := re.fullmatch(r"both pictures contain a (\w+)", text):
        return count(left, match[1]) > 0 and count(right, match[1]) > 0
    if match := re.fullmatch(r"only the (left|right) picture contains something (\w+)", text):
        here, there = (left, right) if match[1] == "left" else (right, left)
        return here.count(match[2]) > 0 and not there.count(match[2])
    if match := re.fullmatch(r"the left picture has more (\w+) shapes than the right one", text):
        return left.count(match[1]) > right.count(match[1])
    if match := re.fullmatch(r"one of the pictures has at least (\w+) (\w+)", text):
        return max(count(left, match[2]), count(right, match[2])) >= NUMBERS.index(match[1])
    match = re.fullmatch(r"there (?:is|are) exactly (\w+) (\w+) in total", text)
    assert match is not None, text
    number = NUMBERS.index(match[1]) if match[1] in NUMBERS else int(match[1])
    return count(left, match[2]) + count(right, match[2]) == number


def test_pairs_show_their_two_scenes_and_half_of_their_sentences_are_true() -> None:
    source = scenes(min_objects=1, max_objects=6, size=32)
    labels = []
    for index in range(2000):
        record = source.record(index)
        left, right = record["scene"], value(record, "right_scene")
        label = value(record, "pair_right")
        assert pair_true_by_looking(left, right, value(record, "pair_statement")) == label
        labels.append(label)
    assert 0.46 < np.mean(labels) < 0.54
    assert np.array_equal(value(record, "left"), paint(left, 32))
    assert np.array_equal(value(record, "right"), paint(right, 32))


# --- scoring ----------------------------------------------------------------------------------------------------

TRUTH = Scene(
    (
        Thing("red", "circle", "small", 0.2, 0.2, 0.1),
        Thing("red", "circle", "large", 0.8, 0.8, 0.1),
        Thing("blue", "cross", "large", 0.2, 0.8, 0.1),
    ),
    220,
    (0, 0),
)


@pytest.mark.parametrize(
    ("words", "share"),
    [
        ("two red circles and a big blue cross", 1.0),
        ("A RED circle , a tiny red circle and a blue cross", 1.0),
        ("a red circle and a blue cross", 2 / 3),
        ("a blue circle and a red cross", 0.0),
        ("three red circles", 2 / 3),
        ("red red red circle circle", 1 / 3),
        ("two blue crosses", 1 / 3),
        ("circle red cross blue", 0.0),
        ("", 0.0),
    ],
)
def test_named_objects_is_the_share_named_with_colour_and_shape(words: str, share: float) -> None:
    assert named_objects(words, TRUTH) == pytest.approx(share)


def test_more_objects_at_least_than_at_most_is_refused() -> None:
    with pytest.raises(UserError, match="min_objects 4 is more than max_objects 2"):
        scenes(min_objects=4)
