import json

import pytest

from worldmodel.training.show.votes import Tally, a_is_left, tally


def choices_file(folder, name: str, choices: dict, **changes) -> str:
    data = {"page": "p", "pairs": 500, "seed": 3, "person": name, "choices": choices} | changes
    (folder / f"{name}.json").write_text(json.dumps(data))
    return str(folder / f"{name}.json")


def votes_for(a: int, b: int, same: int) -> dict[str, str]:
    """Choices of this many pairs, for either side of A."""
    wanted = ["A"] * a + ["B"] * b + ["same"] * same
    sides = a_is_left(500, 3)
    return {
        str(pair): "same" if who == "same" else "left" if (who == "A") == sides[pair] else "right"
        for pair, who in enumerate(wanted)
    }


def test_the_papers_votes_give_the_papers_shares(tmp_path):
    """Table 1 of Predicting Video with VQVAE: 65.7, 12.8 and 21.5 % of 405 judgements."""
    counted = tally([choices_file(tmp_path, "one", votes_for(266, 52, 87))])
    assert counted == Tally(266, 52, 87)
    lines = str(counted).splitlines()
    assert lines[0] == "405 judgements"
    assert [line[:26].split()[-1] for line in lines[1:]] == ["65.7%", "12.8%", "21.5%"]
    assert lines[1].startswith("prefer A ") and lines[1].endswith("95 % interval 60.9% to 70.1%")  # Wilson's


def test_votes_of_several_people_are_added(tmp_path):
    files = [choices_file(tmp_path, "one", votes_for(3, 2, 1)), choices_file(tmp_path, "two", votes_for(1, 0, 4))]
    assert tally(files) == Tally(4, 2, 5)


def test_sides_are_shuffled_by_the_seed():
    sides = a_is_left(200, 0)
    assert sides == a_is_left(200, 0) != a_is_left(200, 1)
    assert 70 < sum(sides) < 130


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"page": "other"}, "from another page"),
        ({"seed": 4}, "from another page"),
        ({"person": "one"}, "same person"),
        ({"choices": {"500": "left"}}, "pair '500', but the page has 0 to 499"),
        ({"choices": {"1": "both"}}, "not a file of choices"),
        ({"pairs": 0}, "pairs must be at least 1"),
    ],
    ids=str,
)
def test_files_that_do_not_belong_together_are_refused(tmp_path, changes, message):
    first = choices_file(tmp_path, "one", {"0": "left"})
    files = [first, choices_file(tmp_path, "two", **{"choices": {"0": "left"}} | changes)]
    with pytest.raises(ValueError, match=message):
        tally(files)


def test_files_without_choices_are_refused(tmp_path):
    with pytest.raises(ValueError, match="hold no choices"):
        tally([choices_file(tmp_path, "one", {})])
