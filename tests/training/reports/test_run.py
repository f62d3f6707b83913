"""The report: what it holds, what it omits, and that its two files agree."""

import json
import math
import re
from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_world
from tests.training.recorded import recorded_store
from tests.training.telling_store import telling_store
from worldmodel.agents.evaluate import Evaluation
from worldmodel.evaluation.evaluate_model import SUMMARY, summarize_model
from worldmodel.training.reports import run as report
from worldmodel.training.reports.blind import blind_row
from worldmodel.training.reports.markdown import machine, strict
from worldmodel.training.reports.run import return_row, write_dream_vs_real, write_report


@pytest.fixture(scope="module")
def measured(store, world):
    return summarize_model(world, store, samples=2, max_segments=4)


def played(*returns: float) -> Evaluation:
    return Evaluation(
        env_id="VideoGenReal-Doom", seed=0, returns=returns, env_returns=returns, lengths=(1,) * len(returns)
    )


def reject_constant(name: str):
    raise AssertionError(f"{name} is not JSON")


def read(folder) -> tuple[str, dict]:
    data = json.loads((folder / "report.json").read_text(), parse_constant=reject_constant)
    return (folder / "report.md").read_text(), data


def test_a_summary_measures_every_part_on_held_out_play(measured, store):
    assert set(measured) == set(SUMMARY)
    held_out = sum(store.lengths[e] for e in store.split("test"))
    assert measured["dynamics"]["steps"] == measured["heads"]["termination"]["steps"] == held_out
    assert measured["settings"]["dreams"] == 2 and measured["settings"]["context_steps"] == 8
    assert 0 < measured["tokenizer"]["nmse"] < math.inf
    assert measured["speed"]["env_steps_per_second"] > 0


def test_short_episodes_are_dreamt_to_their_end(world, tmp_path):
    found = summarize_model(world, telling_store(tmp_path, steps=12), samples=2, max_segments=4)
    assert found["settings"]["context_steps"] == 3 and found["settings"]["horizon"] == 10
    assert len(found["open_loop"]["psnr_db"]["dream"]) == 10


def test_a_summary_is_repeatable(measured, store, world):
    again = summarize_model(world, store, samples=2, max_segments=4)
    assert {**again, "speed": None} == {**measured, "speed": None}


def test_a_model_in_training_mode_is_refused(store):
    world = tiny_world().train()
    with pytest.raises(ValueError, match="training mode"):
        summarize_model(world, store)


def test_episodes_of_another_game_are_refused(world, store, monkeypatch):
    other_actions = replace(store.info.action, names=("noop", "left", "jump"))
    monkeypatch.setattr(store, "info", replace(store.info, action=other_actions))
    with pytest.raises(ValueError, match="the game it was trained on"):
        summarize_model(world, store)


def test_the_report_shows_each_number_with_its_unit(measured, tmp_path):
    returns = [return_row("dream-trained", played(1500.0, 1700.0, 1900.0), "native")]
    returns += [return_row("random", played(357.0), "native")]
    run = {"command": "videogen-dream demo", "seed": 3, "minutes": {"collect": 1.5, "tokenizer": 8.5}}
    write_report(tmp_path, {**measured, "run": run, "returns": returns, "video": "dream_vs_real.gif"})
    text, _ = read(tmp_path)
    bits, speed = measured["dynamics"]["bits_per_code"], measured["speed"]["env_steps_per_second"]
    for expected in (
        "# Report: VideoGenReal-DoomHealthGathering",
        "`videogen-dream demo` with seed 3",
        "| **total** | **10.0** |",
        "| dream-trained | VideoGenReal-Doom | 3 | 1,700.0 ± 496.8 | native |",
        "| random | VideoGenReal-Doom | 1 | 357.0 (one episode) | native |",
        "`videogen-dream evaluate blind --env VideoGenReal-Doom` searches for it",
        "![dream beside reality](dream_vs_real.gif)",
        "| steps (decisions) | 400 |",
        "| action noop | 140 steps (35.0%) |",
        f"| reconstruction PSNR | {measured['tokenizer']['psnr_db']:.2f} dB |",
        "| step | 1 | 2 | 4 | 8 | 16 |",
        "temperature 1",
        f"| bits per code | {bits:.3f} |",
        f"{speed:,.0f} env steps/s",
        f"torch {torch.__version__}",
    ):
        assert expected in text


def test_a_report_with_the_best_blind_policy_does_not_ask_for_it(tmp_path):
    returns = [return_row(name, played(1.0, 2.0), "native") for name in ("agent", blind_row("hold:0.9"))]
    write_report(tmp_path, {"returns": returns})
    text, _ = read(tmp_path)
    assert "| best blind policy, `hold:0.9` | VideoGenReal-Doom | 2 |" in text and "evaluate blind" not in text


def test_every_table_row_has_as_many_cells_as_its_header(measured, tmp_path):
    write_report(tmp_path, measured)
    text, _ = read(tmp_path)
    tables = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    assert len(tables) == len(SUMMARY)  # settings have none, the open loop has two
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_sections_without_data_are_left_out(measured, tmp_path):
    write_report(tmp_path, {"dynamics": measured["dynamics"], "heads": {}})
    text, data = read(tmp_path)
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == ["Dynamics"]
    assert set(data) == {"machine", "dynamics", "heads"}


def test_a_misspelt_section_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'open_loop'"):
        write_report(tmp_path, {"openloop": {}})
    assert list(tmp_path.iterdir()) == []


def test_the_json_holds_the_same_numbers_and_no_infinity(measured, tmp_path):
    write_report(tmp_path, {**measured, "returns": [return_row("random", played(3.0), "health")]})
    _, data = read(tmp_path)
    assert data["returns"][0]["half_width"] is None
    assert {name: data[name] for name in SUMMARY} == strict(measured)


def test_the_machine_is_named(tmp_path, monkeypatch):
    about = machine()
    assert about["cpu"] and about["cores"] >= 1 and about["torch"] == torch.__version__
    monkeypatch.setattr(report, "machine", lambda: {"cpu": "Abacus", "cores": 2, "torch": "9", "date": "2030-01-02"})
    write_report(tmp_path, {})
    assert "Machine: Abacus, 2 cores; torch 9; 2030-01-02." in read(tmp_path)[0]


def test_dream_vs_real_writes_both_videos_of_held_out_play(store, world, tmp_path):
    files = write_dream_vs_real(world, store, tmp_path / "dream_vs_real", episodes=1)
    assert [file.name for file in files] == ["dream_vs_real.mp4", "dream_vs_real.gif"]
    assert all(file.stat().st_size > 1000 for file in files)


def test_dream_vs_real_shows_one_clip_of_a_model_of_clips(store, tmp_path):
    world = tiny_world(net="subscale", subscale=(1, 2, 2), clip_frames=8, kernel=(1, 3, 3))
    assert write_dream_vs_real(world, store, tmp_path / "dream_vs_real", episodes=1)


def test_a_video_of_a_split_without_episodes_is_refused(world, tmp_path):
    with pytest.raises(ValueError, match=r"split 'validation' of .* has no episode to dream of"):
        write_dream_vs_real(world, recorded_store(tmp_path / "data", lengths=(20,)), tmp_path / "video", "validation")


def test_dream_vs_real_shows_what_fits_into_short_episodes(world, tmp_path):
    short = telling_store(tmp_path / "data", steps=9)
    assert write_dream_vs_real(world, short, tmp_path / "dream_vs_real", episodes=1)
