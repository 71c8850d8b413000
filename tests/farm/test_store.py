"""The book of the UV feature store."""

from farm.store import FeatureStore

KEY = ("render", 0)


def test_features_live_until_their_last_reader_is_done():
    store = FeatureStore()
    store.publish(KEY, ["reference"], size=100, readers=2)
    assert store.find(KEY) == ["reference"]
    store.release(KEY, 0)
    store.release(KEY, 0)  # a chunk that was computed twice is still one reader
    assert store.find(KEY) == ["reference"]
    store.release(KEY, 1)
    assert store.find(KEY) is None
    store.release(KEY, 1)


def test_the_book_says_what_exists_and_how_large():
    store = FeatureStore()
    store.publish(KEY, ["a"], size=100, readers=1)
    store.publish(("render", 1), ["b"], size=50, readers=3)
    store.release(KEY, 0)
    store.release(("render", 1), 1)
    assert store.book() == {
        "bytes": 50,
        "peak": 150,
        "entries": [{"render": "render", "pass": 1, "bytes": 50, "waiting": [0, 2]}],
    }
