"""Cards as huggingface_hub reads them."""

import pytest
from huggingface_hub import ModelCard

from tests.tiny import tiny_world
from worldmodel import checkpoint
from worldmodel.cards import model_card
from worldmodel.tokenizer.files import save_tokenizer


def test_a_card_has_what_the_hub_lists_models_by():
    card = ModelCard(
        model_card("world_model", "# toy\n\nA toy.\n", game="MyGame-v0", license="mit", datasets=["me/play"])
    )
    about = card.data
    assert (about.license, about.library_name, about.pipeline_tag) == (
        "mit",
        "videogen-dream",
        "reinforcement-learning",
    )
    assert {"world-model", "gymnasium", "MyGame-v0"} <= set(about.tags) and about.datasets == ["me/play"]
    assert card.text.strip() == "# toy\n\nA toy."


def test_what_nobody_stated_is_left_out():
    about = ModelCard(model_card("tokenizer", "# toy\n")).data.to_dict()
    assert not {"license", "datasets", "pipeline_tag"} & about.keys()


@pytest.mark.parametrize("kind", ["world_model", "tokenizer"])
def test_whatever_is_saved_has_a_card_that_the_hub_reads(kind, tmp_path):
    folder = tiny_world().save_pretrained(tmp_path / "toy")
    if kind == "tokenizer":
        folder = save_tokenizer(tmp_path / "coder", tiny_world().tokenizer)
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "videogen-dream" and card.text.strip()


@pytest.mark.parametrize("name", checkpoint.shipped())
def test_shipped_worlds_have_the_projects_licence_on_their_cards(name):
    card = ModelCard.load(checkpoint.resolve(name) / "README.md")
    assert (card.data.license, card.data.library_name) == ("mit", "videogen-dream")
    assert any(tag.startswith("VideoGenReal-") for tag in card.data.tags)
    assert card.text.strip().startswith(f"# {name}\n")
