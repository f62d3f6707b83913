import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import tiny_world
from worldmodel.model import WorldModel
from worldmodel.tokenizer.files import load_tokenizer, save_tokenizer


def test_a_tokenizer_can_be_saved_alone(tmp_path):
    world = tiny_world()
    save_tokenizer(tmp_path / "tokenizer", world.tokenizer)
    loaded = load_tokenizer(tmp_path / "tokenizer")
    assert all(torch.equal(t, loaded.state_dict()[name]) for name, t in world.tokenizer.state_dict().items())
    with pytest.raises(ValueError, match="holds a tokenizer, wanted a world model"):
        WorldModel.from_pretrained(tmp_path / "tokenizer")


def test_an_older_tokenizer_that_does_not_name_its_class_is_a_vqvae(tmp_path):
    folder = save_tokenizer(tmp_path / "tokenizer", tiny_world().tokenizer)
    (folder / "SHA256SUMS").unlink()
    data = json.loads((folder / "config.json").read_text())
    assert data.pop("net") == "vqvae"
    (folder / "config.json").write_text(json.dumps(data))
    assert load_tokenizer(folder).config == tiny_world().tokenizer.config


def test_the_tokenizer_of_a_world_can_be_loaded_and_trained_further(tmp_path):
    world = tiny_world()
    world.save_pretrained(tmp_path / "world")
    loaded = load_tokenizer(tmp_path / "world")
    state = world.tokenizer.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert load_tokenizer("doom-hg").grid == (2, 8)


@pytest.fixture
def world_folder(tmp_path):
    """A saved world model without checksums, so that its files can be changed."""
    folder = tiny_world().save_pretrained(tmp_path / "world")
    (folder / "SHA256SUMS").unlink()
    return folder


def test_the_other_parts_of_a_world_need_not_fit_this_release(world_folder):
    config = json.loads((world_folder / "config.json").read_text())
    config["heads"] = {"colour": "blue"}
    (world_folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(world_folder / "model.safetensors")
    save_file(tensors | {"heads.threshold": torch.zeros(7)}, world_folder / "model.safetensors")
    (world_folder / "starts.safetensors").write_text("damaged")
    state = tiny_world().tokenizer.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in load_tokenizer(world_folder).state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("tokenizer.codebook.vectors"), r"missing tokenizer\.codebook\.vectors$"),
        (lambda tensors: tensors.update({"tokenizer.extra": torch.zeros(1)}), r"unknown tokenizer\.extra$"),
    ],
)
def test_the_tensors_of_a_worlds_tokenizer_must_fit(world_folder, change, message):
    tensors = load_file(world_folder / "model.safetensors")
    change(tensors)
    save_file(tensors, world_folder / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        load_tokenizer(world_folder)


def test_a_wrong_setting_of_a_worlds_tokenizer_is_named_with_its_part(world_folder):
    config = json.loads((world_folder / "config.json").read_text())
    config["tokenizer"]["colour"] = "blue"
    (world_folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"does not fit this release: tokenizer: VQVAEConfig has no option 'colour'"):
        load_tokenizer(world_folder)


def test_a_tokenizer_loaded_in_inference_mode_can_be_trained(world_folder):
    with torch.inference_mode():
        tokenizer = load_tokenizer(world_folder)
    assert not any(parameter.is_inference() for parameter in tokenizer.parameters())
