"""Exporting a store for LeRobot: what is read back is what was stored, in the files that LeRobot expects."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.data.lerobot.makers import (
    HELD,
    INFO,
    OF_FRAMES,
    TURNS,
    assert_same_but_for_frames,
    make_episode,
    make_store,
    psnr,
)
from tests.kills import litter
from tests.small_disk import room_for
from worldmodel.data import EpisodeStorage, JoinedStorage
from worldmodel.data.lerobot import exporter as module
from worldmodel.data.lerobot import statistics
from worldmodel.data.lerobot.exporter import export_lerobot
from worldmodel.data.lerobot.films import FilmWriter
from worldmodel.data.lerobot.importer import import_lerobot
from worldmodel.data.mirror import mirror
from worldmodel.data.steps import steps_to_frames
from worldmodel.media.read import read_images
from worldmodel.training.cli.main import main


def round_trip(tmp_path, store, **options) -> EpisodeStorage:
    export_lerobot(store, tmp_path / "out", **options)
    return import_lerobot(tmp_path / "out", tmp_path / "again")


@pytest.mark.parametrize(
    "changes",
    [
        {"action": HELD},
        {"action": OF_FRAMES, "channels": 1},
        {"action": TURNS, "frames_per_step": 3, "signal_names": ("HEALTH",), "height": 33, "width": 47},
        {"frames_per_step": 1, "signal_names": ()},
    ],
)
def test_a_store_comes_back_exact_but_for_its_frames(tmp_path, changes):
    store = make_store(tmp_path / "store", **changes)
    assert_same_but_for_frames(round_trip(tmp_path, store), store)


def test_views_become_cameras_and_come_back(tmp_path):
    info = replace(INFO, views=2, test_episodes=2)
    with EpisodeStorage.create(tmp_path / "store", info) as store:
        for play in range(2):
            for view in range(2):
                frames = make_episode(4, 10 * play + view).frames
                store.append(make_episode(4, play, frames=frames))
    assert_same_but_for_frames(round_trip(tmp_path, store), store)
    described = json.loads((tmp_path / "out" / "meta" / "info.json").read_text())
    assert described["total_episodes"] == 2 and "observation.images.camera_1" in described["features"]


@pytest.mark.parametrize("views", [1, 2])
def test_gaps_in_the_ids_stay_so_that_no_episode_changes_its_split(tmp_path, views):
    store = EpisodeStorage.create(tmp_path / "store", replace(INFO, views=views))
    for number in (1, 2, 11):  # 0 and 3 to 10 were never finished
        store.write_block([make_episode(2, number)] * views, number * views)
    store.flush()
    again = round_trip(tmp_path, store)
    assert again.ids.tolist() == store.ids.tolist()
    assert all((again.split(name) == store.split(name)).all() for name in ("train", "validation", "test"))


def test_stores_that_were_joined_are_numbered_from_zero(tmp_path):
    stores = [make_store(tmp_path / name, lengths=(2, 3)) for name in "ab"]
    assert round_trip(tmp_path, JoinedStorage(stores)).ids.tolist() == [0, 1, 2, 3]


def test_pixels_kept_as_they_are_lose_nothing(tmp_path):
    store = make_store(tmp_path / "store")
    assert_same_but_for_frames(round_trip(tmp_path, store, pixels="rgb", crf=0), store, least_psnr=130)


def test_half_the_colours_make_a_film_that_browsers_show(tmp_path):
    store = make_store(tmp_path / "store")
    again = round_trip(tmp_path, store, pixels="yuv420p")
    assert 30 < psnr(again.frames(0), store.frames(0)) < 40
    described = json.loads((tmp_path / "out" / "meta" / "info.json").read_text())
    assert described["features"]["observation.images.camera"]["info"]["video.pix_fmt"] == "yuv420p"


def test_rows_films_and_their_description_agree(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FRAMES_PER_FILE", 12)
    store = make_store(tmp_path / "store", lengths=(4, 2, 5), action=TURNS)
    stats = export_lerobot(store, tmp_path / "out", task="walk")
    assert (stats.episodes, stats.rows, stats.fps) == (3, 22, 10.0)
    files = [f"{name}/chunk-000/file-{n:03d}" for name in ("data", "videos/observation.images.camera") for n in (0, 1)]
    assert all((tmp_path / "out" / f"{file}.{'parquet' if 'data' in file else 'mp4'}").is_file() for file in files)
    rows = [pq.read_table(tmp_path / "out" / f"{file}.parquet").to_pydict() for file in files[:2]]
    assert rows[0]["episode_index"] == [0] * 8 + [1] * 4 and rows[1]["index"] == list(range(12, 22))
    np.testing.assert_allclose(rows[0]["timestamp"][8:], np.arange(4) / 10)
    assert rows[0]["action"] == [*store.actions(0).repeat(2), *store.actions(1).repeat(2)]
    assert rows[0]["next.reward"][:4] == [0, store.rewards(0)[0], 0, store.rewards(0)[1]]
    assert rows[0]["next.done"] == [False] * 7 + [True] + [False] * 3 + [True]  # terminated, truncated
    assert rows[0]["next.truncated"] == [False] * 11 + [True] and not any(rows[1]["next.done"])
    np.testing.assert_array_equal(rows[0]["observation.state"][3], store.signals(0)[1])

    episodes = pq.read_table(tmp_path / "out/meta/episodes/chunk-000/file-000.parquet").to_pydict()
    assert episodes["length"] == [8, 4, 10] and episodes["dataset_to_index"] == [8, 12, 22]
    assert episodes["videos/observation.images.camera/file_index"] == episodes["data/file_index"] == [0, 0, 1]
    np.testing.assert_allclose(episodes["videos/observation.images.camera/from_timestamp"], [0, 0.9, 0])
    film = read_images(tmp_path / "out/videos/observation.images.camera/chunk-000/file-000.mp4", 3).frames
    assert len(film) == 9 + 5 and psnr(film[9], store.frames(1)[0, 0]) > 35
    assert pq.read_table(tmp_path / "out/meta/tasks.parquet").to_pydict() == {"task_index": [0], "task": ["walk"]}


def test_statistics_are_those_of_all_rows(tmp_path):
    store = make_store(tmp_path / "store")
    export_lerobot(store, tmp_path / "out")
    stats = json.loads((tmp_path / "out" / "meta" / "stats.json").read_text())
    actions = np.concatenate([store.actions(episode).repeat(2, axis=0) for episode in range(3)])
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["action"]["std"], actions.std(0), rtol=1e-5)
    np.testing.assert_allclose(stats["action"]["max"], actions.max(0), rtol=1e-6)
    assert stats["action"]["count"] == [22]
    frames = np.concatenate(
        [np.concatenate((store.frames(e)[0, -1:], store.frames(e)[1:].reshape(-1, 32, 48, 3))) for e in range(3)]
    )
    camera = stats["observation.images.camera"]
    np.testing.assert_allclose(np.ravel(camera["mean"]), frames.mean((0, 1, 2)) / 255, rtol=1e-6)
    np.testing.assert_allclose(np.ravel(camera["std"]), frames.std((0, 1, 2)) / 255, rtol=1e-6)
    assert np.shape(camera["q50"]) == (3, 1, 1) and camera["count"] == [25]


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"steps_per_second": 0.0}, {}, "frames per second above 0, got 0; give them as --fps"),
        ({}, {"crf": 52}, "crf must be 0 to 51, got 52"),
        ({}, {"pixels": "png"}, "pixels must be one of yuv444p, yuv420p, rgb, got 'png'"),
        ({"height": 33}, {"pixels": "yuv420p"}, "even sizes, these frames are 33 × 48: use yuv444p"),
        ({"channels": 2}, {}, "films are gray or RGB, the frames of .* have 2 channels"),
        ({"lengths": ()}, {}, "holds 0 episodes of 1 views: nothing to export"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(tmp_path, changes, options, message):
    store = make_store(tmp_path / "store", **changes)
    with pytest.raises(ValueError, match=message):
        export_lerobot(store, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_mirrored_views_are_refused(tmp_path):
    mirrored = mirror(make_store(tmp_path / "store", action=TURNS), tmp_path / "mirrored", swap=["left=right"])
    with pytest.raises(ValueError, match=r"have different actions.*export the store that was mirrored"):
        export_lerobot(mirrored, tmp_path / "out")


def test_the_command_exports_and_never_overwrites(tmp_path, capsys):
    make_store(tmp_path / "store")
    command = ["export-lerobot", str(tmp_path / "store"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert "3 episodes, 22 rows at 10 per second, cameras observation.images.camera" in capsys.readouterr().out
    assert main(command) == 2
    assert "already exists: delete it, or choose another out" in capsys.readouterr().err


def test_films_for_which_the_disk_is_too_small_end_the_export(tmp_path):
    store = make_store(tmp_path / "store")
    with (
        room_for(1000),
        pytest.raises(OSError, match=r"file-000\.mp4 could not be written by ffmpeg: .* of \d+ images"),
        FilmWriter(tmp_path / "film" / "file-000.mp4", store.info, 10.0, 0, "rgb") as film,
    ):
        film.append(steps_to_frames(store.frames(0)))


def test_an_export_that_breaks_off_leaves_nothing_and_can_be_repeated(tmp_path, monkeypatch):
    store = make_store(tmp_path / "store")
    real = statistics.of_frames

    def interrupted(frames):
        if len(frames) == 5:  # the second episode
            raise KeyboardInterrupt
        return real(frames)

    monkeypatch.setattr(statistics, "of_frames", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_lerobot(store, tmp_path / "out")
    assert not (tmp_path / "out").exists() and litter(tmp_path) == []
    monkeypatch.undo()
    assert export_lerobot(store, tmp_path / "out").episodes == 3
