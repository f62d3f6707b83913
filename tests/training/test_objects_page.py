"""The objects' part of an evaluation: numbers in their places, and whole reports of play with labels."""

import json
import math

from tests.training.labelled_store import labelled_store
from worldmodel.training.evaluate_model import ModelEvaluation, evaluate_model
from worldmodel.training.evaluation_report import write_evaluation
from worldmodel.training.inverse_dynamics import InverseDynamicsConfig
from worldmodel.training.objects_page import objects_part

NOTHING = {"objects": 0, "invisible": 0}
SCORES = {"recall": 0.75, "half_width": 0.05, "gain": 0.625, "other": 0.125, "background": 0.0}


def part(**classes) -> list[str]:
    section = {"steps": 1000, "frames": 2000, "nmse": 0.1234, "classes": classes}
    return objects_part(section).splitlines()


def test_each_group_of_objects_has_its_row():
    lines = part(
        ball={"1-3": NOTHING, "4-8": {"objects": 1200, "invisible": 7} | SCORES, "all": {"objects": 0, "invisible": 3}},
        medikit={"1-3": {"objects": 5, "invisible": 0} | SCORES | {"half_width": math.inf}},
    )
    assert "1,000 steps (2,000 frames, NMSE 0.1234)" in lines[0]
    assert lines[4:] == [
        "| ball | 4-8 | 1,200 (and 7 that hardly stand out) | 0.75 ± 0.05 | 0.62 | 0.12 | 0.00 |",
        "|  | all | 0 (and 3 that hardly stand out) | – | – | – | – |",
        "| medikit | 1-3 | 5 | 0.75 | 0.62 | 0.12 | 0.00 |",
    ]


def test_play_without_objects_says_so():
    assert part()[0].endswith("There was none.")
    assert objects_part({"absent": "no labels"}) == "absent: no labels"


def test_a_report_of_play_with_labels_holds_their_recall(world, tmp_path):
    store = labelled_store(tmp_path / "store", steps=8)
    network = InverseDynamicsConfig(steps=1, channels=4)
    config = ModelEvaluation(
        samples=2, context_steps=2, horizon=2, max_segments=4, object_steps=10, inverse_dynamics=network
    )
    results = evaluate_model(world, store, config)
    assert results["objects"]["split"] == "test" and results["objects"]["steps"] == 10
    page = write_evaluation(tmp_path / "out", results, plots=False).read_text()
    recall = results["objects"]["classes"]["block"]["9-19"]["recall"]
    assert f"| block | 9-19 | 20 | {recall:.2f} ± " in page
    assert json.loads((tmp_path / "out" / "report.json").read_text())["objects"] == results["objects"]
