"""The book of the UV feature store."""

import numpy as np

from farm.executor import too_large
from farm.store import FeatureStore

KEY = ("render", 0)


def test_features_live_until_their_last_reader_is_done():
    store = FeatureStore(1000)
    assert store.reserve(KEY, 100, readers=2)
    store.publish(KEY, 90)
    store.release(KEY, [0])
    store.release(KEY, [0])  # a chunk that was computed twice is still one reader
    assert store.bytes() == 90
    store.release(KEY, [1])
    assert store.bytes() == 0
    assert store.release(KEY, [1]) == []


def test_the_book_says_what_exists_and_how_large():
    store = FeatureStore(200)
    store.reserve(KEY, 100, readers=1)
    store.publish(KEY, 100)
    store.reserve(("render", 1), 50, readers=3)
    store.reserve(("other", 0), 80, readers=1)
    store.release(("render", 1), [1])
    first = {"render": "render", "pass": 0, "bytes": 100, "made": True, "waiting": [0]}
    second = {"render": "render", "pass": 1, "bytes": 50, "made": False, "waiting": [0, 2]}
    assert store.book() == {
        "bytes": 150,
        "peak": 150,
        "capacity": 200,
        "entries": [first, second],
        "queue": [("other", 0)],
    }


def test_random_renders_never_take_more_than_there_is_and_all_get_their_turn():
    rng = np.random.default_rng(0)
    for _ in range(50):
        store, alive, finished = FeatureStore(100), [], set()
        wanted = [((f"render {i}", 0), int(size)) for i, size in enumerate(rng.integers(1, 100, 30))]
        for key, size in wanted:
            if store.reserve(key, size, readers=2):
                alive.append(key)
            if alive and rng.random() < 0.5:
                key = alive.pop(rng.integers(len(alive)))
                finished.add(key)
                assert store.release(key, [0]) == []
                alive += store.release(key, [1])
            assert store.bytes() <= 100
        while alive:
            finished.add(alive[0])
            alive += store.drop(alive.pop(0))
        assert finished == {key for key, _ in wanted}
        assert store.peak <= 100


def test_nobody_overtakes():
    """Small features do not slip past large ones for ever."""
    store = FeatureStore(100)
    assert store.reserve(("a", 0), 60, readers=1)
    assert not store.reserve(("large", 0), 80, readers=1)
    assert not store.reserve(("b", 0), 30, readers=1)
    assert store.release(("a", 0), [0]) == [("large", 0)]
    assert store.release(("large", 0), [0]) == [("b", 0)]


def test_a_question_asked_twice_has_one_answer():
    """As when the store, or the answer, was lost on the way."""
    store = FeatureStore(100)
    assert store.reserve(KEY, 80, readers=1)
    assert store.reserve(KEY, 80, readers=1)
    assert not store.reserve(("other", 0), 80, readers=1)
    assert not store.reserve(("other", 0), 80, readers=1)
    assert store.release(KEY, [0]) == [("other", 0)]


def test_what_would_fit_is_named():
    assert "method.keyframes=3 fits" in too_large("nccl", size=400, room=300, keyframes=4)
    assert "keyframes=" not in too_large("nccl", size=400, room=99, keyframes=4)
