import json
import math

import pytest

from renderer.files import atomic, write_json


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / "metrics.json", {"a": math.nan, "b": [1.0, -math.inf], "c": ({"d": math.nan},), "e": "nan"})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "a": None,
        "b": [1.0, None],
        "c": [{"d": None}],
        "e": "nan",
    }


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write():
        with atomic(path) as part:
            part.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_do_not_mix(tmp_path):
    with atomic(tmp_path / "a") as first, atomic(tmp_path / "a") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a").read_text() == "first"
