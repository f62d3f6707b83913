"""Whole comparisons on toy episodes: trained once, measured alike, written as tables."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.makers import make_store
from tests.test_examples import load_example
from tests.training.recorded import recorded_store
from tests.training.stand_ins import Means, save_script
from tests.training.telling_store import telling_store
from worldmodel.data import ActionSpec, Episode, EpisodeStorage
from worldmodel.data.regroup import regroup, regroup_action, regroup_clip_actions, regroup_episode
from worldmodel.errors import OutsideError
from worldmodel.model import WorldModel
from worldmodel.training.ablations import measure as ablation_measure
from worldmodel.training.ablations import run as ablations
from worldmodel.training.ablations.measure import Measuring
from worldmodel.training.ablations.papers import COPY
from worldmodel.training.ablations.run import ablate
from worldmodel.training.ablations.scale import PRESETS
from worldmodel.training.ablations.tables import TABLES, variants
from worldmodel.training.cli.main import main

SMOKE = PRESETS["smoke"]
PAPERS = ("VideoGen", "Latent Video Transformer", "Predicting Video with VQVAE")
BRIEF = {"tokenizer_loop": replace(SMOKE.tokenizer_loop, steps=2, batch_size=2)}
BRIEF["prior_loop"] = BRIEF["tokenizer_loop"]
QUICK = replace(
    SMOKE,
    coarser=4,
    tokenizer_loop=replace(SMOKE.tokenizer_loop, steps=2, batch_size=2),
    prior_loop=replace(SMOKE.prior_loop, steps=2, batch_size=2),
    inverse_dynamics=replace(SMOKE.inverse_dynamics, steps=2),
    samples=2,
    data_steps=480,
    lvt=replace(SMOKE.lvt, **BRIEF),
    pixelcnn=replace(SMOKE.pixelcnn, **BRIEF),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return telling_store(tmp_path_factory.mktemp("play") / "data")


SCALE = replace(QUICK, depths=(1, 3, 3, 3))


@pytest.fixture(scope="module")
def transformer(tmp_path_factory, store):
    """A finished table of transformers: its folder, which tests copy, and its page."""
    folder = tmp_path_factory.mktemp("transformer")
    return folder, ablate("transformer", store.root, folder, SCALE)["transformer"]


class Trained:
    """Wraps both training functions: records the folders, in order, and fails in those of `failing`."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.failing: set[str] = set()

    def before(self, train, place: int):
        def noting(*args, **kwargs):
            self.names.append(args[place].name)
            if args[place].name in self.failing:
                raise FloatingPointError("the loss became nan")
            return train(*args, **kwargs)

        return noting


@pytest.fixture
def trained(monkeypatch):
    spy = Trained()
    monkeypatch.setattr(ablations, "train_tokenizer", spy.before(ablations.train_tokenizer, 1))
    monkeypatch.setattr(ablations, "train_dynamics", spy.before(ablations.train_dynamics, 2))
    return spy


@pytest.mark.timeout(120)
def test_tables_share_what_they_have_in_common_and_finished_trainings_are_not_repeated(
    tmp_path, store, transformer, trained
):
    shutil.copytree(transformer[0], tmp_path, dirs_exist_ok=True)
    assert len([*tmp_path.glob("tokenizer-*")]) == 1 and len([*tmp_path.glob("prior-*")]) == 2
    page = transformer[1].replace(str(transformer[0]), str(tmp_path))
    assert ablate("transformer", store.root, tmp_path, SCALE)["transformer"] == page
    assert not trained.names
    file = next(tmp_path.glob("prior-*/measured.json"))
    kept = json.loads(file.read_text())
    del kept["settings"]["metrics"], kept["metrics"]["bits_per_frame"]  # as before there was this metric
    file.write_text(json.dumps(kept))
    ablate("transformer", store.root, tmp_path, SCALE)
    assert not trained.names and "bits_per_frame" in json.loads(file.read_text())["metrics"]
    ablate("depth", store.root, tmp_path, SCALE)
    assert len(trained.names) == 1  # the prior of one layer
    rows = json.loads((tmp_path / "depth.json").read_text())["rows"]
    assert [row["metrics"]["prior_parameters"] for row in rows[1:]] == [rows[1]["metrics"]["prior_parameters"]] * 3
    assert rows[0]["metrics"]["prior_parameters"] < rows[1]["metrics"]["prior_parameters"]


@pytest.mark.timeout(120)
def test_a_failed_training_leaves_a_gap_and_is_tried_again(tmp_path, store, trained):
    failing = variants("attention", QUICK, store.info)[0].tokenizer_folder
    trained.failing.add(failing)
    with pytest.raises(OutsideError, match=f"1 trainings failed: {failing}"):
        ablate("attention", store.root, tmp_path, QUICK)
    assert "| none | none | 0.0041 | failed |" in (tmp_path / "attention.md").read_text()
    trained.failing.clear()
    page = ablate("attention", store.root, tmp_path, QUICK)["attention"]
    assert "| failed |" not in page and trained.names.count(failing) == 2 and len(trained.names) == 3


@pytest.mark.timeout(120)
def test_the_models_of_the_three_papers_are_measured_in_the_same_way_and_compared_with_copying(tmp_path, store):
    ablate("papers", store.root, tmp_path, QUICK, samplings=2)
    rows = json.loads((tmp_path / "papers.json").read_text())["rows"]
    assert [row["name"] for row in rows] == [*PAPERS, COPY]
    learned = {"mse", "bits_per_code", "copy_bits", "idm_fd", "idm_fd_deviation", "shuffled_action_ratio"}
    learned |= {"action_score", "action_score_real", "predicted_psnr_db", "changed_share", "seconds_per_clip"}
    assert all(learned <= set(row["metrics"]) for row in rows[:-1])
    assert set(rows[-1]["metrics"]) == {"idm_fd", "predicted_psnr_db", "psnr_by_frame"}
    for row in rows[:-1]:
        assert row["metrics"]["bits_per_frame"] == pytest.approx(row["metrics"]["bits_per_clip"] / 16)
    assert all(len(row["metrics"]["psnr_by_frame"]) == 12 for row in rows)  # after four given frames
    assert len({row["metrics"]["action_score_real"] for row in rows[:-1]}) == 1


@pytest.mark.slow
def test_the_order_of_a_clips_codes_is_compared_with_copying(tmp_path, store, trained):
    page = ablate("lvt-attention", store.root, tmp_path, QUICK)["lvt-attention"]
    assert len(trained.names) == 4  # one tokenizer, three priors
    assert "copy the last of 5 given frames | 320.9 |" in page and "| key | key | 130.27 ± 4.26 | absent |" in page


def test_the_minutes_of_an_interrupted_training_are_unknown(tmp_path, store):
    row = variants("attention", QUICK, store.info)[0]
    folder = tmp_path / row.tokenizer_folder
    folder.mkdir()
    (folder / "measured.json").write_text('{"metrics": {"nmse": 0.5}}')
    for resumed, minutes in ((False, {"tokenizer_minutes": 7.5}), (True, {})):
        (folder / "time.json").write_text(json.dumps({"minutes": 7.5, "resumed": resumed}))
        assert ablations._row(row, tmp_path, [])["metrics"] == {"nmse": 0.5} | minutes


def test_only_steps_of_the_train_split_count_as_learned_from(tmp_path):
    store = make_store(tmp_path / "play", lengths=range(2, 32))  # 30 episodes
    for most in (None, 60, 10**6):
        kept = EpisodeStorage.open(ablations._store_for(2, store, tmp_path, replace(SMOKE, data_steps=most)))
        learned = sum(kept.lengths[episode] for episode in kept.split("train").tolist())
        assert 0 < ablations._learned_steps(store, most) == learned < sum(kept.lengths)


def test_real_clips_and_those_of_the_floor_are_of_different_test_episodes(tmp_path, monkeypatch):
    store = telling_store(tmp_path / "data", episodes=60)  # 6 for the test
    measuring = Measuring(
        data=str(store.root),
        folder=str(tmp_path / "measure"),
        i3d=None,
        device="cpu",
        samples=3,
        samplings=1,
        seed=0,
        inverse_dynamics=QUICK.inverse_dynamics,
    )
    seen, features = [], ablation_measure._features

    def noting(measuring, store, clips):
        seen.append(clips)
        return features(measuring, store, clips)

    monkeypatch.setattr(ablation_measure, "_features", noting)
    ablation_measure.prepare(measuring)
    where = [{episode_of(store, clip) for clip in clips} for clips in seen]
    assert len(where[0]) == len(where[1]) == 3 and where[0] | where[1] == set(store.split("test").tolist())
    assert [*ablation_measure.floor_of(measuring)] == ["idm_fd"]
    assert ablation_measure.floor_source(measuring) == "of 3 other episodes"
    few = replace(measuring, samples=60, folder=str(tmp_path / "few"))
    ablation_measure.prepare(few)
    assert ablation_measure.floor_of(few) == {} and "other clips" in ablation_measure.floor_source(few)


def episode_of(store, clip):
    """The episode whose frames a clip's are."""
    wanted = clip.numpy().tobytes()
    found = [
        episode
        for episode in range(len(store))
        for first in range(store.lengths[episode])
        if store.frames(episode)[first : first + len(clip)].tobytes() == wanted
    ]
    return found[0]


def test_measurements_are_repeated_if_the_samples_differ(tmp_path, store, trained):
    ablate("attention", store.root, tmp_path, QUICK)
    ablate("attention", store.root, tmp_path, replace(QUICK, samples=3))
    measured = json.loads(next(tmp_path.glob("tokenizer-*/measured.json")).read_text())
    assert measured["settings"]["samples"] == 3 and len(trained.names) == 2


@pytest.mark.timeout(120)
def test_an_i3d_file_fills_the_columns_that_were_absent(tmp_path, store, transformer):
    shutil.copytree(transformer[0], tmp_path, dirs_exist_ok=True)
    before = transformer[1]
    save_script(Means(), tmp_path / "i3d.pt")
    four = replace(SCALE, samples=4)  # enough for two folds
    after = ablate("transformer", store.root, tmp_path, four, i3d=tmp_path / "i3d.pt")["transformer"]
    assert "absent" in before and "absent" not in after
    assert "| FVD, 2-fold |" in after and "2-fold" not in before
    for row in json.loads((tmp_path / "transformer.json").read_text())["rows"]:
        assert {"r_fvd", "fvd", "fvd_star"} <= set(row["metrics"])


def test_unknown_names_and_other_data_are_refused_before_any_training(tmp_path, store, trained):
    with pytest.raises(ValueError, match=r"unknown table 'deph'\. Did you mean 'depth'"):
        ablate("deph", store.root, tmp_path)
    with pytest.raises(ValueError, match=r"unknown preset 'smal'\. Did you mean 'small'"):
        ablate("depth", store.root, tmp_path, "smal")
    with pytest.raises(FileNotFoundError, match="there is no I3D file"):
        ablate("depth", store.root, tmp_path, QUICK, i3d=tmp_path / "nothing.pt")
    ablations._claim(tmp_path, store)
    with pytest.raises(ValueError, match="holds ablations on other data"):
        ablate("depth", recorded_store(tmp_path / "other").root, tmp_path, QUICK)
    assert not trained.names


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_table_runs_at_smoke_size(tmp_path, store, trained):
    pages = ablate("all", store.root, tmp_path, "smoke")
    assert tuple(pages) == TABLES and not any("| failed |" in page for page in pages.values())
    for table in TABLES:
        for row in json.loads((tmp_path / f"{table}.json").read_text())["rows"]:
            measured = {"nmse", "r_idm_fd"}
            if table not in ("attention", "lvt-codebooks"):
                measured |= {"bits_per_code", "idm_fd_star"}
            if row["name"] == COPY:
                measured = {"idm_fd", "predicted_psnr_db"}
            assert row["here"] == "not trained" or measured <= set(row["metrics"])
    assert len(set(trained.names)) == len(trained.names)
    names = list(trained.names)
    assert ablate("all", store.root, tmp_path, "smoke") == pages and trained.names == names


def test_the_command_names_the_nearest_table(tmp_path, store, capsys):
    assert main(["ablate", "codebook", "--data", str(store.root), "--out", str(tmp_path)]) == 2
    assert "Did you mean 'codebooks'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_example_prints_a_table(tmp_path, store, capsys):
    load_example("ablations").main(str(store.root), "attention", "smoke", str(tmp_path))
    assert "VideoGPT table 3" in capsys.readouterr().out and (tmp_path / "attention.json").exists()


HELD = ActionSpec(kind="box", n=2, low=(-1.0,) * 2, high=(1.0,) * 2)
KINDS = {
    "one of many": lambda frames: ActionSpec(kind="discrete", n=20),
    "held": lambda frames: HELD,
    "of each frame": lambda frames: regroup_action(HELD, 1, frames),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 2), (4, 2), (1, 4), (2, 4), (2, 1)])
def test_actions_of_clips_are_those_of_regrouped_play(old, new, kind):
    steps, action = 16 // old + 1, KINDS[kind](old)
    actions = np.arange(1, steps + 1)
    if action.kind == "box":
        actions = np.arange(1.0, steps * action.n + 1, dtype=np.float32).reshape(steps, -1)
    episode = Episode(
        frames=np.zeros((steps + 1, old, 2, 2, 3), np.uint8),
        actions=actions,
        rewards=np.zeros(steps, np.float32),
        terminated=True,
        truncated=False,
        signals=np.zeros((steps + 1, 0), np.float32),
    )
    # The clip begins after the first step of the play, whose actions it does not have.
    wanted = regroup_episode(episode, new, action).actions[max(1, old // new) : 16 // new]
    given = regroup_clip_actions(torch.from_numpy(actions)[None, 1 : 16 // old], action, old, new)[0]
    assert given[len(given) - len(wanted) :].tolist() == wanted.tolist()
    assert len(given) == 16 // new - 1 and not given[: len(given) - len(wanted)].any()


def test_models_of_longer_steps_are_measured_with_the_recorded_actions(tmp_path, store, monkeypatch):
    sample, given = WorldModel.sample, []

    def noting(self, *args, actions=None, **options):
        given.append(actions)
        return sample(self, *args, actions=actions, **options)

    monkeypatch.setattr(WorldModel, "sample", noting)
    ablate("conditions", regroup(store, tmp_path / "single frames", 1), tmp_path / "out", QUICK)
    assert [None if actions is None else bool(actions.any()) for actions in given] == [None, None, True, True]


def test_episodes_of_long_steps_have_no_row_with_action_conditioning(store):
    info = replace(store.info, frames_per_step=4)
    with pytest.raises(ValueError, match="frames_per_step 2 or less"):
        variants("conditions", SMOKE, info)
    assert variants("depth", SMOKE, info)


def test_a_folder_that_holds_something_else_is_not_changed(tmp_path):
    store = make_store(tmp_path / "store")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="something other than ablations"):
        ablations._claim(tmp_path / "out", store)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]
