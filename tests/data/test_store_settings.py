"""Stores that remember the settings of their command."""

import pytest

from tests.data.makers import INFO
from worldmodel.data.store_settings import open_with_settings


def test_a_store_is_continued_with_settings_that_json_writes_otherwise(tmp_path):
    settings = {"size": (64, 48), "odds": {1: 0.5}, "seed": 0}
    for _ in range(2):
        store = open_with_settings(tmp_path / "store", "made.json", settings, lambda: INFO)
    assert store.info == INFO
    with pytest.raises(ValueError, match=r"was made with size=\[64, 48\], not \[64, 64\]"):
        open_with_settings(tmp_path / "store", "made.json", settings | {"size": (64, 64)}, lambda: INFO)
