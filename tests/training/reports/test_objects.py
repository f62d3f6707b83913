"""The objects' part of an evaluation: numbers in their cells, and whole reports of episodes with labels."""

import json
import math

from tests.training.labelled_store import labelled_store
from worldmodel.evaluation.evaluate_model import ModelEvaluation, evaluate_model
from worldmodel.evaluation.inverse_dynamics import InverseDynamicsConfig
from worldmodel.training.reports.objects import danger_part, dreamt_part, objects_part
from worldmodel.training.reports.run import write_report

NOTHING = {"objects": 0, "invisible": 0}
SCORES = {"recall": 0.75, "half_width": 0.05, "recall_alone": 0.875, "gain": 0.625, "other": 0.125, "background": 0.0}


def part(**classes) -> list[str]:
    section = {"steps": 1000, "frames": 2000, "nmse": 0.1234, "psnr_db": 30.0, "classes": classes}
    return objects_part(section).splitlines()


def test_each_group_of_objects_has_its_row():
    lines = part(
        ball={"1-3": NOTHING, "4-8": {"objects": 1200, "invisible": 7} | SCORES, "all": {"objects": 0, "invisible": 3}},
        medikit={"1-3": {"objects": 5, "invisible": 0} | SCORES | {"half_width": math.inf, "recall_alone": None}},
    )
    assert "1,000 steps (2,000 frames, NMSE 0.1234, 30.00 dB)" in lines[0]
    assert lines[4:] == [
        "| ball | 4-8 | 1,200 (and 7 that hardly stand out) | 0.75 ± 0.05 | 0.88 | 0.62 | 0.12 | 0.00 |",
        "|  | all | 0 (and 3 that hardly stand out) | – | – | – | – | – |",
        "| medikit | 1-3 | 5 | 0.75 | – | 0.62 | 0.12 | 0.00 |",
    ]


def test_episodes_without_objects_are_reported():
    assert part()[0].endswith("There was none.")
    assert objects_part({"absent": "no labels"}) == "absent: no labels"


def test_the_table_of_dreams_compares_them_with_the_game_by_step():
    pixels = {
        "0": {"game": 0.012, "dream": 0.012, "ratio": 1.0, "half_width": 0.0},
        "1": {"game": 0.01, "dream": 0.005, "ratio": 0.5, "half_width": 0.125},
        "2": {"game": 0.0, "dream": 0.0, "ratio": None, "half_width": None},
    }
    pictures = {step: scores | {"game": 1.0} for step, scores in pixels.items()}
    section = {"dreams": 64, "context_steps": 8, "temperature": 1.0, "episodes": 20, "classes": {}}
    assert dreamt_part(section).endswith("There was none.")
    section["classes"]["ball"] = {"precision": 0.875, "recall": None, "pixels": pixels, "pictures": pictures}
    assert dreamt_part(section).splitlines()[2:] == [
        "| class |  | 0 | 1 | 2 |",
        "| --- | --- | --- | --- | --- |",
        "| ball (precision 0.88, recall –) | pixels in the game | 1.20% | 1.00% | 0.00% |",
        "|  | pixels, dream / game | 1.00 ± 0.00 | 0.50 ± 0.12 | – |",
        "|  | pictures, dream / game | 1.00 ± 0.00 | 0.50 ± 0.12 | – |",
    ]
    section["classes"]["ball"] |= {"kept": pictures, "appeared": pixels}
    assert dreamt_part(section).splitlines()[7:] == [
        "|  | pictures, shown at 0, dream / game | 1.00 ± 0.00 | 0.50 ± 0.12 | – |",
        "|  | pictures, not shown at 0, dream / game | 1.00 ± 0.00 | 0.50 ± 0.12 | – |",
    ]
    assert dreamt_part({"absent": "no labels"}) == "absent: no labels"


def test_the_table_of_probes_has_a_row_per_distance_of_danger():
    near = {"states": 1000, "hits": 0.0456, "codes": 0.91, "codes_half_width": 0.02, "pixels": 0.9}
    far = {"states": 950, "hits": 1.0, "codes": None, "codes_half_width": None, "pixels": None}
    section = {
        "steps": [3, 10],
        "states": {"train": 4000},
        "near": near | {"pixels_half_width": None},
        "far": far | {"pixels_half_width": None},
    }
    assert danger_part(section).splitlines()[4:] == [
        "| within 3 steps | 1,000 | 0.046 | 0.910 ± 0.020 | 0.900 |",
        "| not within 3, but within 10 steps | 950 | 1.000 | not measured | not measured |",
    ]
    assert danger_part({"absent": "no HEALTH"}) == "absent: no HEALTH"


def test_a_report_of_play_with_labels_holds_all_three(world, tmp_path):
    store = labelled_store(tmp_path / "store", steps=14)
    network = InverseDynamicsConfig(steps=1, channels=4)
    sizes = {"samples": 2, "max_segments": 4, "object_steps": 10, "object_dreams": 3, "danger_steps": 40}
    config = ModelEvaluation(context_steps=2, horizon=2, object_horizon=4, inverse_dynamics=network, **sizes)
    results = evaluate_model(world, store, config)
    assert results["objects"]["split"] == "test" and results["objects"]["steps"] == 10
    dreamt = results["dreamt_objects"]
    assert (dreamt["dreams"], dreamt["context_steps"], dreamt["horizon"]) == (3, 2, 4)
    assert results["danger"]["near"]["hits"] == 1.0  # HEALTH falls in every step there
    page = write_report(tmp_path / "out", results).read_text()
    recall = results["objects"]["classes"]["block"]["9-19"]["recall"]
    assert f"| block | 9-19 | 20 | {recall:.2f} ± " in page
    assert "| class |  | 0 | 1 | 2 | 3-4 |" in page and "| within 3 steps | " in page
    assert json.loads((tmp_path / "out" / "report.json").read_text())["objects"] == results["objects"]
