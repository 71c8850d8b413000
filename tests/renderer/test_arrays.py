import numpy as np
import pytest

from renderer.arrays import load_arrays, save_arrays

ARRAYS = {
    "keys": np.arange(12, dtype=np.uint64).reshape(3, 4) << np.uint64(60),
    "weight/1": np.linspace(0, 1, 10, dtype=np.float32),
    "mask": np.array([[True, False], [False, True]]),
    "turned": np.arange(6, dtype=np.int32).reshape(2, 3).T,
    "number": np.float64(3.5),
    "none": np.zeros((0, 4), np.int32),
    "half": np.ones((2, 1, 3), np.float16),
}


def test_arrays_come_back_as_they_were(tmp_path):
    save_arrays(tmp_path / "deep" / "a.arrow", ARRAYS)
    found = load_arrays(tmp_path / "deep" / "a.arrow")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert np.array_equal(found[name], array)


def test_they_are_views_of_the_file_and_cannot_be_changed(tmp_path):
    save_arrays(tmp_path / "a.arrow", ARRAYS)
    found = load_arrays(tmp_path / "a.arrow")
    assert not found["keys"].flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        found["keys"][0, 0] = 1


def test_a_file_written_again_leaves_those_who_read_the_old_one_in_peace(tmp_path):
    path = tmp_path / "a.arrow"
    save_arrays(path, {"x": np.zeros(100_000)})
    old = load_arrays(path)["x"]
    save_arrays(path, {"x": np.ones(100_000)})
    assert (old == 0).all()
    assert (load_arrays(path)["x"] == 1).all()
    assert [file.name for file in tmp_path.iterdir()] == ["a.arrow"]
