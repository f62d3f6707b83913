"""Files of numpy: one array, several, and damaged ones."""

import numpy as np
import pytest

from worldmodel.media.arrays import read_array, read_arrays


def test_several_arrays_are_read_by_name_and_a_single_one_without(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    np.savez(tmp_path / "two.npz", x=np.arange(3), y=np.arange(2))
    assert read_array(tmp_path / "a.npy").tolist() == read_array(tmp_path / "a.npz").tolist() == [0, 1, 2]
    assert set(read_arrays(tmp_path / "two.npz")) == {"x", "y"}
    with pytest.raises(ValueError, match=r"two\.npz must hold one array, got 2: x, y"):
        read_array(tmp_path / "two.npz")


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_a_file_cut_short_or_damaged_is_refused_by_name(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    np.save(path, np.arange(900)) if ending == "npy" else np.savez_compressed(path, a=np.arange(900))
    whole = path.read_bytes()
    for content in (
        b"",
        whole[: len(whole) // 2],
        *([whole[:200] + bytes(99) + whole[299:]] if ending == "npz" else []),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"a\.{ending} holds no readable array"):
            read_array(path)


def test_objects_are_not_loaded(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="one with Python objects"):
        read_array(tmp_path / "o.npy")


def test_bytes_changed_at_random_are_read_or_refused_with_the_name(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.npz"
    for save in (np.save, np.savez):
        with open(path, "wb") as file:
            save(file, np.array([(1, 2.0)], [("a", "i4"), ("b", "f4")]))
        whole = path.read_bytes()
        for _ in range(300):
            content = bytearray(whole)
            for place in rng.integers(len(whole), size=3):
                content[place] = rng.integers(256)
            path.write_bytes(content)
            try:
                read_arrays(path)
            except ValueError as error:
                assert "a.npz holds no readable array" in str(error)


def test_a_missing_file_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "a.npy")
