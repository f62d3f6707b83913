import json

import pytest

from worldmodel.files import write_json
from worldmodel.statistics import mean_with_interval
from worldmodel.training.transfer.page import rows_of, write_transfer

MACHINE = {"cpu": "Abacus", "cores": 2, "torch": "2.13.0", "date": "2026-11-29", "videogen_dream": "1.0"}
WORLD = {"name": "runs/world", "sha256": "ab" * 32, "given": False}


def cell(row, returns, seed=None, decisions=0, hours=None, world=None, **changes):
    mean, half_width = mean_with_interval(returns)
    result = {
        "mean": mean,
        "half_width": half_width,
        "returns": returns,
        "episodes": len(returns),
        "first_seed": 10_000,
    }
    hours = {"world": None, "player": 0.0, "judged": 0.0, "of_all_attempts": True} | (hours or {})
    about = {"game": "Toy-v0", "row": row, "player": f"the {row} player", "seed": seed, "result": result}
    about |= {"decisions": decisions, "hours": hours, "commands": [f"videogen-dream {row}"], "settings": {}}
    return about | {"world": world, "machine": MACHINE} | changes


def write(out, *cells):
    write_json(out / "config.json", {"decisions": 7})
    for number, each in enumerate(cells):
        write_json(out / each["game"] / "cells" / f"{number}.json", each)
    page = write_transfer(out, ["Toy-v0"], "videogen-dream benchmark transfer").read_text()
    return page, json.loads((out / "transfer.json").read_text())


RANDOM, BLIND = cell("random", [1.0, 2.0, 3.0]), cell("blind", [9.0, 10.0, 11.0], decisions=4_000)


@pytest.mark.parametrize(
    ("agents", "above", "singly"),
    [
        ([[20.0, 21.0, 22.0], [30.0, 31.0, 32.0]], True, 2),
        ([[20.0, 21.0, 22.0], [9.0, 10.0, 11.0]], False, 1),
        (
            [[12.0, 12.1, 12.2], [12.0, 12.1, 12.2]],
            False,
            0,
        ),  # the mean is, the blind policy's interval reaches to 12.5
        ([[5.0, 30.0, 31.0], [6.0, 29.0, 31.0]], False, 0),  # the mean is, its own interval reaches down
    ],
)
def test_a_row_is_above_the_best_blind_policy_where_the_intervals_are_apart(tmp_path, agents, above, singly):
    learned = [cell("dream", returns, seed, 100) for seed, returns in enumerate(agents)]
    page, data = write(tmp_path, RANDOM, BLIND, *learned)
    row = data["games"]["Toy-v0"][-1]
    assert (row["above_blind"], row["agents_above_blind"]) == (above, singly)
    word = "above" if above else "**not above**"
    assert f"- The dream player (100 real decisions) is {word} the best blind policy: " in page
    assert f"| {word}, {singly} of 2 agents above |" in page


def test_the_agents_of_a_row_count_all_their_episodes_together():
    agents = [cell("dream", [1.0, 2.0], seed=1), cell("dream", [5.0, 8.0], seed=0)]
    (row,) = rows_of(agents)
    assert (row["mean"], row["half_width"]) == mean_with_interval([1.0, 2.0, 5.0, 8.0])
    assert [agent["mean"] for agent in row["agents"]] == [6.5, 1.5]  # in the order of their seeds
    assert "above_blind" not in row


def test_rows_have_one_order_and_every_learner_is_compared_with_model_free_training(tmp_path):
    rows = ("loop4", "dream", "free10", "free1")
    page, data = write(tmp_path, *(cell(row, [30.0, 31.0, 32.0], 0, 50) for row in rows), BLIND, RANDOM)
    order = ["random", "blind", "free1", "free10", "dream", "loop4"]
    assert [row["row"] for row in data["games"]["Toy-v0"]] == order
    statements = [line for line in page.splitlines() if line.startswith("- The ")]
    assert [line.split(":")[0] for line in statements] == [
        f"- The {one} player (50 real decisions) is {word}"
        for one in ("dream", "loop4")
        for word in ("above the best blind policy", "**not above** the free1 player (50 real decisions)")
    ]
    assert [page.index(f"videogen-dream {row}\n") for row in order] == sorted(
        page.index(f"dream {row}\n") - 9 for row in order
    )


def test_the_hours_of_a_world_count_once_and_those_of_a_given_one_are_not_known(tmp_path):
    hours = {"world": 4.0, "player": 0.5, "judged": 0.25}
    page, _ = write(tmp_path / "own", *(cell("dream", [1.0, 2.0], s, 1, hours, WORLD) for s in (0, 1)))
    assert "| 5.5 |" in page and f"World `runs/world`: weights of SHA-256 {WORLD['sha256']}." in page
    cut = hours | {"of_all_attempts": False}
    page, _ = write(tmp_path / "cut", *(cell("dream", [1.0, 2.0], s, 1, h, WORLD) for s, h in enumerate((hours, cut))))
    assert "| ≥ 5.5 |" in page
    given, hours = WORLD | {"given": True}, {"world": None, "player": 0.5, "judged": 0.25}
    page, _ = write(tmp_path / "given", *(cell("dream", [1.0, 2.0], s, None, hours, given) for s in (0, 1)))
    assert "| unknown |" in page and "| 1.5, without its world's |" in page


def test_a_page_names_every_machine_and_the_days_it_worked(tmp_path):
    days = [MACHINE | {"date": f"2026-12-0{day}"} for day in (3, 1, 2)] + [MACHINE | {"cpu": "Slide rule"}]
    cells = [cell("dream", [1.0, 2.0], seed, machine=about) for seed, about in enumerate(days)]
    page, _ = write(tmp_path, *cells)
    assert "- Made on Abacus, 2 cores; VideoGenDream 1.0, torch 2.13.0; 2026-12-01 to 2026-12-03." in page
    assert "- Made on Slide rule, 2 cores; VideoGenDream 1.0, torch 2.13.0; 2026-11-29." in page
    assert page.count("videogen-dream dream\n") == 1


def test_games_that_were_not_requested_again_come_after_the_others(tmp_path):
    page, data = write(tmp_path, cell("random", [1.0, 2.0], game="Another-v0"), RANDOM)
    assert list(data["games"]) == ["Toy-v0", "Another-v0"] and page.index("## Toy") < page.index("## Another")
    assert data["settings"] == {"decisions": 7} and len(data["cells"]) == 2
