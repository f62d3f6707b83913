"""A damaged training state gives one line that names the file; an intact one is read completely."""

import json
import re

import pytest
import torch
from torch import nn

from worldmodel.training.training_state import FILE, NEW, Progress, load_state, save_state, steps_done

DONE = Progress(7, 0.5, {"total": 0.5, "step": 7})
SETTINGS = {"loop": {"steps": 9}, "data": "here"}


def make() -> tuple[nn.Module, list[torch.optim.Optimizer]]:
    torch.manual_seed(0)
    model = nn.Linear(40, 30)
    return model, [torch.optim.AdamW(model.parameters())]


def load(folder, settings=SETTINGS) -> Progress:
    model, optimizers = make()
    return load_state(folder, model, optimizers, settings, torch.device("cpu"))


@pytest.fixture
def folder(tmp_path):
    model, optimizers = make()
    model(torch.ones(1, 40)).sum().backward()
    optimizers[0].step()
    save_state(tmp_path, model, optimizers, SETTINGS, DONE)
    return tmp_path


def test_a_saved_state_is_read_and_a_folder_without_one_is_new(folder, tmp_path_factory):
    assert load(folder) == DONE and steps_done(folder) == 7
    empty = tmp_path_factory.mktemp("empty")
    assert load(empty) == NEW and steps_done(empty) == 0


def test_a_state_of_other_settings_names_them_but_a_moved_store_does_not_count(folder):
    assert load(folder, SETTINGS | {"data": "elsewhere"}) == DONE
    with pytest.raises(ValueError, match=r"other settings \(.*steps.*use another --out"):
        load(folder, {"loop": {"steps": 10}})


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_state_cut_short_is_damaged(folder, keep):
    data = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    with pytest.raises(
        ValueError, match=rf"{re.escape(str(folder / FILE))} is damaged \(.*\): restore it .* or delete"
    ):
        load(folder)


def test_every_changed_byte_is_noticed_or_changes_nothing(folder):
    data = (folder / FILE).read_bytes()
    generator, refused = torch.Generator().manual_seed(0), 0
    for place in torch.randint(len(data), (150,), generator=generator).tolist():
        (folder / FILE).write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        model, optimizers = make()
        try:
            assert load_state(folder, model, optimizers, SETTINGS, torch.device("cpu")) == DONE
        except ValueError as error:
            assert str(folder / FILE) in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 100


def test_an_offset_before_the_beginning_of_the_file_is_damage(folder):
    """Seeking to it is an error of the operating system."""
    data = bytearray((folder / FILE).read_bytes())
    offset = slice((end := data.rindex(b"PK\x06\x06")) + 48, end + 56)  # of the list of records, in ZIP64's form
    data[offset] = (int.from_bytes(data[offset], "little") + 85).to_bytes(8, "little")
    (folder / FILE).write_bytes(data)
    with pytest.raises(ValueError, match=r"training_state\.pt is damaged"):
        load(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"step": "7"},
        {"step": -1},
        {"step": True},
        {"best": None},
        {"best": float("nan")},
        {"scores": []},
        {"scores": {"total": "low"}},
        {"model": []},
        {"optimizers": {}},
        {"settings": 3},
    ],
)
def test_a_state_with_values_of_other_types_is_damaged(folder, change):
    torch.save(torch.load(folder / FILE, weights_only=True) | change, folder / FILE)
    with pytest.raises(ValueError, match="is damaged"):
        load(folder)


def test_another_object_or_code_in_its_place_is_damaged(folder):
    for other in ([1], {"step": 1}, torch.ones(2)):
        torch.save(other, folder / FILE)
        with pytest.raises(ValueError, match="is damaged"):
            load(folder)
        with pytest.raises(ValueError, match="is damaged"):
            steps_done(folder)
    torch.save(make()[0], folder / FILE)  # a pickled module: loading it would run code
    with pytest.raises(ValueError, match="is damaged"):
        load(folder)
    (folder / FILE).write_text(json.dumps({"step": 7}))
    with pytest.raises(ValueError, match="is damaged"):
        load(folder)
