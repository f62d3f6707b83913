import re
import shutil
from json import loads

import pytest

from worldmodel import checkpoint
from worldmodel.training.cli.main import main
from worldmodel.training.reports.shipped_worlds import world_facts, worlds


@pytest.fixture
def copy(tmp_path):
    """A shipped world's folder that may be changed."""
    return shutil.copytree(checkpoint.resolve("doom-take-cover"), tmp_path / "world")


def test_every_shipped_world_is_listed_with_its_dream_and_its_game():
    found = loads(worlds(json=True))
    assert list(found) == checkpoint.shipped()
    assert found["doom-hg"]["dream"] == "VideoGenDream-DoomHealthGathering"
    assert found["doom-hg"]["game"] == "VideoGenReal-DoomHealthGathering"
    assert found["doom-hg"]["codes per step"] == "64: 2 x 8 tokens of 4, each one of 1024"
    assert found["doom-take-cover"]["codes per step"] == "64: 2 x 8 tokens of 4, each one of 1024"


def test_the_text_has_each_name_and_the_scores_of_its_card():
    text = worlds()
    assert all(f"{name}\n" in text for name in checkpoint.shipped())
    card = (checkpoint.resolve("doom-hg") / "README.md").read_text()
    bits = next(line for line in card.splitlines() if line.startswith("| bits per code"))
    assert bits.split("|")[2].strip() in text


def test_scores_and_verdict_are_read_from_the_card(copy):
    card = (copy / "README.md").read_text()
    changed = re.sub(r"PSNR [\d.]+ dB", "PSNR 12.3 dB", card.replace("**not trusted**", "**undecided**"))
    (copy / "README.md").write_text(changed)
    found = world_facts(copy, "doom-take-cover")
    assert found["trust"] == "undecided"
    assert found["reconstruction, test episodes"].endswith("PSNR 12.3 dB")


def test_a_card_without_a_verdict_has_none(copy):
    (copy / "README.md").write_text("# a world\n")
    found = world_facts(copy, "mine")
    assert found["trust"] == "no verdict on the card"
    assert found["dream"] == "none" and "note" not in found


def test_the_command_prints_the_worlds(capsys):
    assert main(["worlds", "--json"]) == 0
    assert list(loads(capsys.readouterr().out)) == checkpoint.shipped()
