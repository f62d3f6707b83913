"""The whole evaluation on the toy model, and its parts on dreams whose scores are known."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.clips import CLIP, clip_world
from tests.dynamics.worlds import make_world
from tests.pixelcnn_world import pixelcnn_world
from tests.tiny import tiny_world
from tests.training.dream_vs_real.test_trust_page import make_trust
from tests.training.recorded import recorded_store
from tests.training.telling_store import telling_store
from worldmodel.data import ActionSpec, EpisodeStorage
from worldmodel.data.mirror import mirror
from worldmodel.data.regroup import regroup
from worldmodel.data.splits import SPLITS, split_of
from worldmodel.evaluation.control import control_scores
from worldmodel.evaluation.distances import fvd_section
from worldmodel.evaluation.evaluate_model import (
    SECTIONS,
    ModelEvaluation,
    evaluate_model,
    summarize_model,
)
from worldmodel.evaluation.frechet import frechet_distance
from worldmodel.evaluation.fvd import i3d_logits, load_i3d
from worldmodel.evaluation.inverse_dynamics import InverseDynamicsConfig, read, train_inverse_dynamics
from worldmodel.evaluation.open_loop import dream_on, open_loop, open_loop_scores, swapped_actions
from worldmodel.training.cli.main import main
from worldmodel.training.reports.evaluation import distances_part
from worldmodel.training.reports.run import write_report

IDM = InverseDynamicsConfig(steps=100, batch_size=64, channels=8, features=16, learning_rate=5e-3)
SMALL = ModelEvaluation(
    samples=6,
    context_steps=3,
    horizon=9,
    max_segments=8,
    inverse_dynamics=InverseDynamicsConfig(steps=2, batch_size=8, channels=4),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return telling_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def results(world, store, i3d_file):
    return evaluate_model(world, store, SMALL, i3d_file)


@pytest.fixture(scope="module")
def perfect(world, store):
    """Dreams of a model that knows the future, with a lossless tokenizer."""
    dreams = open_loop(world, store, "test", 24, 3, temperature=1.0, num_steps=8)
    return dreams._replace(reconstruction=dreams.real, dream=dreams.real)


def with_other_dream(dreams, dream):
    return dreams._replace(dream=torch.cat((dreams.real[:, :3], dream), dim=1))


# --- parts whose scores are known


def test_a_perfect_dream_is_usable_to_the_end_and_a_frozen_one_never(perfect, store):
    scores = open_loop_scores(perfect, store.plays)
    assert scores["usable_horizon_psnr_db"] == scores["usable_horizon_ssim"] == 8
    assert scores["ssim"]["dream"] == pytest.approx([1.0] * 8, abs=1e-6)
    frozen = with_other_dream(perfect, perfect.real[:, 2:3, -1:].expand(-1, 8, 2, -1, -1, -1))
    assert open_loop_scores(frozen, store.plays)["usable_horizon_psnr_db"] == 0


def test_control_finds_the_actions_of_dreams_that_obey_them_and_not_of_those_that_ignore_them(perfect, store):
    model = train_inverse_dynamics(store, IDM)
    actions, other = perfect.batch.actions, swapped_actions(perfect.batch, 3)
    deaf = {"real": (perfect.real, actions), "dream": (perfect.dream, actions), "dream_swapped": (perfect.dream, other)}
    scores, features = control_scores(model, deaf, 3)
    assert scores["measure"] == "accuracy" and scores["transitions"] == 24 * 8
    assert scores["real"] == scores["dream"] > 0.95 and scores["dream_over_real"] == 1.0
    # With the same film and other actions, the network finds what the film shows: one action in three by chance.
    by_chance = (other[:, 2:] == actions[:, 2:]).float().mean()
    assert scores["dream_swapped"] == pytest.approx(float(by_chance), abs=0.05) and scores["dream_swapped"] < 0.6
    by_step = scores["by_step"]["dream"]
    assert len(by_step) == 8 and sum(by_step) / 8 == pytest.approx(scores["dream"])
    assert torch.equal(features["real"], features["dream"]) and features["real"].shape == (24 * 8, 16)


def test_the_action_error_of_dreams_is_relative_to_that_of_real_episodes(monkeypatch):
    actions = torch.rand(4, 3, 2, generator=torch.Generator().manual_seed(0))
    off = torch.tensor([0.1, -0.2])
    read = iter([actions + off, actions + 2 * off])  # as read from real play and from dreams
    monkeypatch.setattr("worldmodel.evaluation.control.read", lambda *_: (next(read).flatten(0, 1), torch.zeros(12, 2)))
    judge = SimpleNamespace(action=ActionSpec(kind="box", n=2, low=(-1.0, -1.0), high=(2.0, 2.0)))
    frames = torch.zeros(4, 4, 2, 8, 8, 3, dtype=torch.uint8)
    scores, _ = control_scores(judge, {"real": (frames, actions), "dream": (frames, actions)}, 0)
    assert scores["error_over_real"] == pytest.approx(4.0, rel=1e-4)


def test_fvd_reads_the_16_frames_from_the_last_context_step_on(world, store, i3d_file):
    dreams = open_loop(world, store, "test", 3, 3, temperature=1.0, num_steps=8)
    perfect = dreams._replace(reconstruction=dreams.real, dream=dreams.real)
    i3d, cpu = load_i3d(i3d_file), torch.device("cpu")
    scores = fvd_section(i3d, perfect, [], cpu)
    assert scores["fvd"] == pytest.approx(0.0, abs=1e-5) and scores["fvd_star"] == pytest.approx(0.0, abs=1e-5)
    assert scores["given_frames"] == 2 and scores["clips"] == [3, 3]
    late = perfect.dream.clone()
    late[:, 2 + 8 :] = 0  # after the 16 frames
    assert fvd_section(i3d, perfect._replace(dream=late), [], cpu)["fvd"] == pytest.approx(0.0, abs=1e-5)
    late[:, 2 + 7] = 0  # the last two of them
    assert fvd_section(i3d, perfect._replace(dream=late), [], cpu)["fvd"] > 0.001
    assert "absent" in fvd_section(None, perfect, [], cpu)


def test_distances_of_dreams_that_are_drawn_again_have_a_deviation(world, store, i3d_file):
    config = replace(SMALL, samplings=3)
    results = evaluate_model(world, store, config, i3d_file, sections=("idm_fd", "fvd", "unconditional"))
    once = evaluate_model(world, store, SMALL, i3d_file, sections=("idm_fd", "fvd"))
    for section, name in (("idm_fd", "dream"), ("fvd", "fvd")):
        values = results[section][f"{name}_by_sampling"]
        assert len(set(values)) == 3 and values[0] == once[section][name] == results[section][name]
        assert once[section][f"{name}_by_sampling"] == values[:1]
    # of the second sampling by hand: rows are drawn from the seeds after those of the first
    dreams = open_loop(world, store, "test", 6, 3, temperature=1.0, num_steps=9)
    again = dream_on(world, dreams.batch, dreams.batch.actions, 3, 1.0, seed=6)
    i3d = load_i3d(i3d_file)
    logits = (i3d_logits(i3d, video[:, 2:].flatten(1, 2)[:, :16]) for video in (again, dreams.real))
    assert frechet_distance(*logits) == pytest.approx(results["fvd"]["fvd_by_sampling"][1], rel=1e-6)
    part = distances_part(results["idm_fd"], results["fvd"], results["unconditional"])
    assert part.count("(deviation of 3 samplings)") == 2


# --- the whole


def test_an_evaluation_has_every_section_and_the_same_seed_gives_the_same_numbers(results, world, store):
    assert [*results] == [*SECTIONS]
    for name in ("objects", "dreamt_objects"):
        assert results[name] == {"absent": "the episodes have no labels of objects (collect --labels)"}
    assert len(results["open_loop"]["psnr_db"]["dream"]) == 9
    assert results["control"]["transitions"] == 6 * 9 and results["idm_fd"]["clips"] == 6
    assert results["idm_fd"]["dream"] > 0 and results["idm_fd"]["reconstruction"] > 0
    assert results["dynamics"]["bits_per_frame"] == pytest.approx(4 * results["dynamics"]["bits_per_code"])
    again = evaluate_model(world, store, SMALL)
    assert again.pop("fvd") == {"absent": "no I3D file was given (--i3d PATH)"}
    assert again.pop("speed")["rows"] == results["speed"]["rows"]
    assert json.dumps(again) == json.dumps({name: results[name] for name in again})


def test_the_floor_is_drawn_from_other_test_episodes_than_the_real_clips(world, tmp_path, monkeypatch):
    store, read_videos = telling_store(tmp_path / "data", episodes=60), []

    def noting(judge, frames):
        read_videos.append(frames)
        return read(judge, frames)

    monkeypatch.setattr("worldmodel.evaluation.distances.read", noting)
    results = evaluate_model(world, store, replace(SMALL, samples=3))
    held_out = store.split("test").tolist()
    real = open_loop(world, store, "test", 3, 3, temperature=1.0, num_steps=9).segments
    left = set(held_out) - {segment.episode for segment in real}
    others = {frames.numpy().tobytes() for episode in left for frames in windows(store, episode, 10)}
    floor = [video for video in read_videos if all(row.numpy().tobytes() in others for row in video)]
    assert len(held_out) == 6 and len(left) == 3 and len(floor) == 1 and len(floor[0]) == 3
    assert results["settings"]["clips"] == results["settings"]["episodes"] == 3
    assert results["idm_fd"]["floor"] == "of 3 other episodes" and results["idm_fd"]["other_real"] > 0
    page = write_report(tmp_path, results).read_text(encoding="utf-8")
    assert "3 different clips of 3 episodes" in page
    assert (
        f"other real clips of 3 other episodes (the floor) against real clips | {results['idm_fd']['other_real']:.3f}"
        in page
    )


def windows(store, episode, steps):
    frames = torch.from_numpy(store.episode(episode).frames)
    return [frames[first : first + steps] for first in range(len(frames) - steps + 1)]


def test_a_missing_floor_is_reported_as_absent(world, tmp_path):
    results = evaluate_model(world, telling_store(tmp_path, steps=12), replace(SMALL, samples=4))
    assert results["idm_fd"]["other_real"] is None and results["settings"]["episodes"] == 2
    page = write_report(tmp_path, results).read_text(encoding="utf-8")
    assert "other real clips (the floor) against real clips | absent: split 'test' holds only" in page


def test_a_recording_and_its_mirrored_copy_count_as_one_episode(world, tmp_path):
    data = telling_store(tmp_path / "data")
    config = replace(SMALL, samples=64)
    counts = [
        evaluate_model(world, store, config, sections=["settings"])["settings"]["episodes"]
        for store in (data, mirror(tmp_path / "data", tmp_path / "twins", swap=["left=right"]))
    ]
    assert counts[0] == counts[1] == len(data.split("test"))


SPATIAL = {"subscale": (1, 2, 2), "clip_frames": 8, "kernel": (1, 3, 3)}  # clips of four steps
TOLD = {"frame_condition": 1, "drop_actions": 0.0}  # frames and actions


@pytest.mark.parametrize(
    ("make", "given", "horizon"),
    [
        (lambda: clip_world(), 0, CLIP),
        (lambda: clip_world(action_condition="none"), 0, CLIP),
        (lambda: clip_world(order="raster", **TOLD), 1, 5),
        (lambda: clip_world("causal", action_condition="clip"), 3, 5),
        (lambda: make_world("block", "learned", "frames-and-step", window=6, max_steps=6), 3, 5),
        (lambda: make_world("block", "learned", "clip", window=5, max_steps=5, learn_start=False), 3, 5),
        (lambda: tiny_world(net="subscale", frames_alone=True), 3, 5),
        (lambda: tiny_world(net="subscale", frames_alone=True, **SPATIAL), 3, 1),
    ],
    ids=["clips", "clips-deaf", "clips-given-frames", "causal", "frames-and-limit", "clip-actions", "lvt", "lvt-clip"],
)
def test_every_kind_of_model_is_scored_on_what_it_can_do(make, given, horizon, store, tmp_path, unrendered):
    world = make()
    results = evaluate_model(world, store, replace(SMALL, samples=4, horizon=5))
    config, control = world.config.dynamics, results["control"]
    assert (results["settings"]["context_steps"], results["settings"]["horizon"]) == (given, horizon)
    assert control["transitions"] == 4 * (horizon if given else horizon - 1)
    assert ("absent" in results["open_loop"]) == (not given)
    assert ("absent" in control) == (config.action_condition == "none") == (control["dream"] is None)
    free = config.lead and (config.action_condition == "none" or config.drop_actions > 0)
    assert ("idm_fd" in results["unconditional"]) == bool(free)
    page = write_report(tmp_path, results, plots=True).read_text(encoding="utf-8")
    assert ("absent: the model cannot start from context steps" in page) == (not given)
    assert ("absent: the model has no action conditioning" in page) == (config.action_condition == "none")
    assert ("absent: this model" in page) == (not free)
    assert (tmp_path / "horizon.png").exists() == bool(given)


def test_a_hierarchy_is_scored_on_what_follows_one_given_step(store, tmp_path):
    world, fours = pixelcnn_world(), EpisodeStorage.open(regroup(store, tmp_path / "fours", 4))
    results = evaluate_model(world, fours, replace(SMALL, samples=4, horizon=5))
    assert (results["settings"]["context_steps"], results["settings"]["horizon"]) == (1, 5)
    assert len(results["open_loop"]["psnr_db"]["dream"]) == 5 and results["control"]["transitions"] == 4 * 5
    for name in ("unconditional", "speed"):
        assert "absent" in results[name]
    assert "begins" in results["unconditional"]["absent"] and "cannot dream" in results["speed"]["absent"]
    page = write_report(tmp_path / "page", results, plots=True).read_text(encoding="utf-8")
    assert f"absent: {results['speed']['absent']}" in page
    alone = f"{results['tokenizer']['given_over_whole']:.3f}"
    assert f"| NMSE with the given step encoded alone / with the whole clip | {alone} |" in page


@pytest.mark.parametrize(
    ("asked", "found"), [((8, 16), (1, 3)), ((4, 1), (1, 1)), ((3, 16), (3, 1)), ((1, 2), (1, 2))], ids=str
)
def test_a_model_of_one_clip_is_given_less_than_it_and_dreams_to_its_end(store, asked, found):
    world = tiny_world(net="subscale", **SPATIAL)
    sizes = ModelEvaluation(samples=4, context_steps=asked[0], horizon=asked[1])
    results = evaluate_model(world, store, sizes, sections=["settings", "open_loop"])
    assert (results["settings"]["context_steps"], results["settings"]["horizon"]) == found
    assert len(results["open_loop"]["psnr_db"]["dream"]) == found[1]


def test_clip_models_get_frames_and_not_codes_as_context(store):
    world = clip_world(frame_condition=2)
    dreams = open_loop(world, store, "test", 3, 2, temperature=1.0, num_steps=4)
    video = world.sample(3, 6, dreams.real[:, :2], dreams.batch.actions)
    assert torch.equal(dreams.dream, video.frames)
    codes = world.tokenizer.encode(dreams.real[:, 2:6])  # the clip that ends with the video
    assert torch.equal(dreams.reconstruction[:, 4:], world.tokenizer.decode(codes)[:, 2:])


def test_validation_episodes_shorter_than_a_clip_leave_out_the_f1_of_rewards_alone(tmp_path):
    validation = split_of(np.arange(10)) == SPLITS.index("validation")
    store = recorded_store(tmp_path, lengths=tuple(np.where(validation, 2, 20).tolist()))  # a clip has four steps
    heads = evaluate_model(clip_world(), store, SMALL, sections=["heads"])["heads"]
    assert heads["positive_reward"]["events"] > 0 and "f1" not in heads["positive_reward"]


def test_a_horizon_longer_than_any_episode_is_refused_with_what_to_lower(world, store):
    longest = max(store.lengths[e] + 1 for e in store.split("test"))
    with pytest.raises(ValueError, match=rf"3 context and 99 dreamt steps .* than the {longest} .* \(--horizon\)"):
        evaluate_model(world, store, replace(SMALL, horizon=99))


def test_episodes_of_exactly_one_clip_are_summarized(tmp_path):
    store = recorded_store(tmp_path, lengths=(CLIP - 1,) * 10)
    about = summarize_model(clip_world(), store, samples=2, max_segments=4)["settings"]
    assert (about["context_steps"], about["horizon"]) == (0, CLIP)


def test_short_episodes_are_summarized_for_a_model_that_must_be_given_two_steps(tmp_path):
    store = recorded_store(tmp_path, lengths=(5,) * 10)
    world = make_world("block", condition="frames-and-step")
    about = summarize_model(world, store, samples=2, max_segments=4)["settings"]
    assert (about["context_steps"], about["horizon"]) == (2, 4)


def test_a_horizon_shorter_than_a_clip_is_refused(store):
    with pytest.raises(ValueError, match=r"clips of 4 steps, more than 1 context and 2 dreamt ones; .* at least 3"):
        evaluate_model(clip_world(frame_condition=1), store, replace(SMALL, horizon=2))


def test_fvd_of_dreams_from_nothing_uses_unconditional_clips(store, i3d_file):
    world = make_world("block", condition="frames")
    results = evaluate_model(world, store, replace(SMALL, context_steps=1, horizon=7), i3d_file)
    assert results["unconditional"]["steps"] == 8
    free = world.sample(6, 8).frames.flatten(1, 2)
    real = open_loop(world, store, "test", 6, 1, temperature=1.0, num_steps=7).real.flatten(1, 2)
    i3d = load_i3d(i3d_file)
    wanted = frechet_distance(i3d_logits(i3d, free), i3d_logits(i3d, real))
    assert results["unconditional"]["fvd"] == pytest.approx(wanted)


def test_clips_too_short_for_fvd_make_it_absent(store, i3d_file, tmp_path):
    results = evaluate_model(clip_world(), store, replace(SMALL, samples=4), i3d_file)
    assert results["fvd"] == {"absent": "FVD reads 16 frames, and a clip of this model has 8"}
    assert "fvd" not in results["unconditional"]
    assert "a clip of this model has 8" in write_report(tmp_path, results).read_text()


def test_a_horizon_too_short_for_fvd_is_refused_before_anything_is_measured(world, store, i3d_file):
    short = ModelEvaluation(samples=4, context_steps=1, horizon=6)
    with pytest.raises(ValueError, match="16 frames, and a context step and a horizon of 6 steps have 14"):
        evaluate_model(world, store, short, i3d_file)


@pytest.mark.parametrize("changes", [{"samples": 1}, {"context_steps": 0}, {"horizon": 0}, {"max_segments": 1}])
def test_sizes_that_are_too_small_are_refused(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be at least"):
        ModelEvaluation(**changes)


# --- the report


def table_rows(page):
    return [[cell.strip() for cell in line.split(" | ")] for line in page.splitlines() if line.startswith("|")]


def test_the_report_holds_the_numbers_for_people_and_for_programs(results, tmp_path):
    page = write_report(tmp_path, results | {"trust": make_trust()}, plots=True).read_text(encoding="utf-8")
    assert f"{results['tokenizer']['psnr_db']:.2f} dB" in page
    assert f"| PSNR in dB, dream, ± 95 % | {results['open_loop']['psnr_sureness']['half_width'][0]:.3f} |" in page
    assert "| PSNR in dB, dream less copy, ± 95 % |" in page
    assert "IDM-FD (6 clips, 54 transitions, 64 features)" in page
    assert f"| FVD | {results['fvd']['fvd']:.1f} |" in page
    assert f"real clips of the other) | {results['fvd']['fvd_two_fold']:.1f} |" in page
    assert "6 against 6 clips, 2 of 16 frames given" in page and "papers have 256 clips" in page
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["control"]["dream"] == results["control"]["dream"] and "machine" in data
    for name in ("horizon.png", "control.png", "trust.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG") and f"({name})" in page
    numbers, judged = page.split("## Is the dream true where policies go?")
    assert {len(row) for row in table_rows(numbers)} == {2, 3, 4, 5, 6}
    assert "**Verdict:** all in **one** line." in judged


def test_without_an_i3d_file_fvd_is_absent_and_not_replaced(results, tmp_path):
    page = write_report(tmp_path, results | {"fvd": {"absent": "no I3D file was given"}}).read_text()
    for name in ("FVD", "R-FVD", "FVD\\*"):
        assert f"| I3D | {name} | absent: no I3D file was given |" in page
    assert "png" not in page and not list(tmp_path.glob("*.png"))


def test_values_that_could_not_be_measured_are_marked(results, tmp_path):
    results = results | {"tokenizer": results["tokenizer"] | {"nmse_changed_small": None}}
    page = write_report(tmp_path, results).read_text()
    assert "not measured" in page


def test_an_interval_of_one_episode_is_a_dash(results, tmp_path):
    horizon = results["open_loop"]
    endless = {name: [math.inf] * len(values) for name, values in horizon["psnr_sureness"].items()}
    results = results | {"open_loop": horizon | {"psnr_sureness": endless}}
    page = write_report(tmp_path, results).read_text()
    assert "| PSNR in dB, dream, ± 95 % | – | – |" in page and " inf " not in page
    assert "Infinity" not in (tmp_path / "report.json").read_text()


def test_the_command_measures_a_run_folder(tmp_path, world, store, capsys):
    world.save_pretrained(tmp_path / "run" / "best")
    sizes = ["--samples", "4", "--context-steps", "2", "--horizon", "3", "--max-segments", "4"]
    network = ["--inverse-dynamics.steps", "2", "--inverse-dynamics.channels", "4"]
    out = ["--data", str(store.root), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["evaluate-model", str(tmp_path / "run"), *out, *sizes, *network]) == 0
    printed = capsys.readouterr().out
    assert "bits per code" in printed and "note:" not in printed
    assert "absent: no real game was given (--real ID)" in printed
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert data["run"]["config"]["samples"] == 4 and "--samples 4 --context-steps 2" in data["run"]["command"]
    assert main(["evaluate-model", str(tmp_path / "run"), *out, *sizes, "--i3d", str(tmp_path / "no.pt")]) == 2
    assert "no I3D file" in capsys.readouterr().err


def test_episodes_of_another_game_are_refused(tmp_path, store, capsys):
    other = tiny_world()
    other.config = replace(other.config, env_id="Other-v0")
    other.save_pretrained(tmp_path / "world")
    given = ["--data", str(store.root), "--out", str(tmp_path / "out"), "--i3d", str(tmp_path / "none")]
    assert main(["evaluate-model", str(tmp_path / "world"), *given]) == 2  # the reason precedes all measurements
    assert f"its env_id is {store.info.env_id}, the model's Other-v0" in capsys.readouterr().err
