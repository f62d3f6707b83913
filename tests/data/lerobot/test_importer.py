"""Importing LeRobot's data sets: of other programs, with pictures or films, and what is refused."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.data.lerobot.makers import INFO, TURNS, make_store, psnr, smooth_frames
from worldmodel.data import EpisodeStorage
from worldmodel.data.lerobot.exporter import export_lerobot
from worldmodel.data.lerobot.importer import import_lerobot
from worldmodel.training.cli.main import main

CAMERA = "observation.images.camera"


def change_json(path, change) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def without_column(path, name) -> None:
    pq.write_table(pq.read_table(path).drop_columns([name]), path)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A data set of another program, and a store with the same content."""
    folder = tmp_path_factory.mktemp("original")
    return folder / "set", make_dataset(folder / "set")


@pytest.fixture
def dataset(original, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(original[0], tmp_path / "set")


def make_dataset(root, lengths=(4, 2, 5), **changes):
    """As another program would have written it: no description of a store, no frame after the last action."""
    store = make_store(root.parent / f"{root.name}-store", lengths, **changes)
    export_lerobot(store, root)
    (root / "meta" / "videogen_dream.json").unlink()
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    episodes = pq.read_table(path)
    episodes = episodes.drop_columns([name for name in episodes.column_names if name.startswith("videogen_dream")])
    ends = [row[f"videos/{CAMERA}/from_timestamp"] + row["length"] / 10 for row in episodes.to_pylist()]
    name = f"videos/{CAMERA}/to_timestamp"
    pq.write_table(episodes.set_column(episodes.column_names.index(name), name, pa.array(ends)), path)
    return store


def test_rows_of_another_program_become_frames_and_its_last_frame_is_shown_twice(original, dataset, tmp_path):
    store = original[1]
    again = import_lerobot(dataset, tmp_path / "again")
    assert again.lengths == store.lengths and again.info.env_id == "set" and again.info.steps_per_second == 5
    assert again.info.action.frames == 2 and again.info.action.names == ("x_0", "y_0", "x_1", "y_1")
    assert again.info.signal_names == ("HEALTH", "AMMO") and again.info.reward == "native"
    for episode in range(3):
        np.testing.assert_array_equal(again.actions(episode), np.tile(store.actions(episode), 2))
        np.testing.assert_array_equal(again.rewards(episode), store.rewards(episode))
        np.testing.assert_array_equal(again.signals(episode)[:-1], store.signals(episode)[:-1])
        np.testing.assert_array_equal(again.signals(episode)[-1], store.signals(episode)[-2])
        assert again.ended(episode) == store.ended(episode)
        assert psnr(again.frames(episode)[:-1], store.frames(episode)[:-1]) > 35
        np.testing.assert_array_equal(again.frames(episode)[-1, 1], again.frames(episode)[-1, 0])


def test_options_choose_steps_kind_bounds_signals_ends_and_size(tmp_path):
    store = make_dataset(tmp_path / "set", action=TURNS)
    again = import_lerobot(
        tmp_path / "set",
        tmp_path / "again",
        frames_per_step=1,
        action_kind="box",
        action_limit=[4],
        signals=False,
        ends="stopped",
        size=(16, 16),
        name="Walk",
    )
    info = again.info
    assert (info.env_id, info.frame_shape, info.signal_names) == ("Walk", (1, 16, 16, 3), ())
    assert info.action.kind == "box" and info.action.high == (4.0,)
    assert [again.ended(episode) for episode in range(3)] == [(False, False)] * 3
    np.testing.assert_array_equal(again.actions(0)[:, 0], store.actions(0).repeat(2))
    discrete = import_lerobot(tmp_path / "set", tmp_path / "discrete")
    assert discrete.info.action.kind == "discrete" and discrete.info.action.n == 3
    np.testing.assert_array_equal(discrete.actions(1), store.actions(1))


def test_an_episode_that_does_not_fill_its_last_step_is_padded(original, dataset, tmp_path):
    store = original[1]
    again = import_lerobot(dataset, tmp_path / "again", frames_per_step=3)
    assert again.lengths == [3, 2, 4]  # 8, 4 and 10 rows
    np.testing.assert_array_equal(again.actions(0)[-1], [*store.actions(0)[-1], *store.actions(0)[-1], 0, 0])
    assert again.rewards(0).sum() == pytest.approx(store.rewards(0).sum(), abs=1e-5)


def test_pictures_in_the_table_are_read_without_loss(tmp_path):
    make_dataset(tmp_path / "set", lengths=(3,))
    frames = smooth_frames(6, 32, 48, 3, seed=9)
    cells = []
    for frame in frames:
        Image.fromarray(frame).save(buffer := io.BytesIO(), "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    path = tmp_path / "set/data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).append_column(CAMERA, pa.array(cells)), path)
    change_json(tmp_path / "set/meta/info.json", lambda info: info["features"][CAMERA].update(dtype="image"))
    store = import_lerobot(tmp_path / "set", tmp_path / "again")
    np.testing.assert_array_equal(store.frames(0)[1:].reshape(-1, 32, 48, 3)[:-1], frames[1:])
    np.testing.assert_array_equal(store.frames(0)[0], frames[[0, 0]])


def test_pictures_of_an_episode_are_read_without_those_of_others(tmp_path, monkeypatch):
    lengths = (3, 2, 4)
    make_dataset(tmp_path / "set", lengths=lengths)
    path = tmp_path / "set/data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    frames = smooth_frames(len(table), 32, 48, 3, seed=9)
    cells = []
    for frame in frames:
        Image.fromarray(frame).save(buffer := io.BytesIO(), "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    table, first = table.append_column(CAMERA, pa.array(cells)), 0
    with pq.ParquetWriter(path, table.schema) as writer:  # as LeRobot does: a group of rows for each episode
        for rows in (2 * length for length in lengths):
            writer.write_table(table.slice(first, rows))
            first += rows
    change_json(tmp_path / "set/meta/info.json", lambda info: info["features"][CAMERA].update(dtype="image"))
    read, read_table = [], pq.read_table

    def noting(*args, **options):
        found = read_table(*args, **options)
        read.extend([len(found)] if CAMERA in found.column_names else [])
        return found

    monkeypatch.setattr(pq, "read_table", noting)
    store = import_lerobot(tmp_path / "set", tmp_path / "again")
    assert read == [6, 6, 4, 8]  # the first episode again, whose size is needed first
    shown = np.concatenate([store.frames(index)[1:].reshape(-1, 32, 48, 3)[:-1] for index in range(3)])
    np.testing.assert_array_equal(shown, np.delete(frames, [0, 6, 10], axis=0))


def table_of_pictures(root, pictures) -> None:
    """A data set of one episode whose table holds these pictures as PNG."""
    make_dataset(root, lengths=(len(pictures) // 2,))
    cells = []
    for picture, options in pictures:
        picture.save(buffer := io.BytesIO(), "PNG", **options)
        cells.append({"bytes": buffer.getvalue(), "path": None})
    path = root / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).append_column(CAMERA, pa.array(cells)), path)
    change_json(root / "meta/info.json", lambda info: info["features"][CAMERA].update(dtype="image"))


def test_pictures_in_the_table_are_read_like_picture_files(tmp_path, capsys):
    """Of 16 bits by their high byte, transparent ones over black, turned ones upright."""
    shades = np.tile(np.linspace(0, 250, 48).astype(np.uint8), (32, 1))
    hidden = np.dstack([np.full((32, 48, 3), 200, np.uint8), np.where(shades < 100, 0, 255).astype(np.uint8)])
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = np.zeros((32, 48, 3), np.uint8)
    turned[:4, :4] = 255
    table_of_pictures(
        tmp_path / "set",
        [
            (Image.fromarray(shades), {}),
            (Image.fromarray(shades.astype(np.uint16) * 257), {}),
            (Image.fromarray(hidden), {}),
            (Image.fromarray(turned), {"exif": exif}),
        ],
    )
    store = import_lerobot(tmp_path / "set", tmp_path / "again")
    _, plain, deep, over, upright, _ = store.frames(0).reshape(-1, 32, 48, 3)
    np.testing.assert_array_equal(plain, np.repeat(shades[..., None], 3, axis=-1))
    np.testing.assert_array_equal(deep, plain)
    np.testing.assert_array_equal(over, hidden[..., :3] * (hidden[..., 3:] > 0))
    np.testing.assert_array_equal(upright, turned[::-1, ::-1])
    said = capsys.readouterr().out
    assert "16 bits per channel, converted to 8: 1" in said and "orientation: 1" in said and "over black: 1" in said


def test_damaged_pictures_in_the_table_are_named(tmp_path):
    frames = smooth_frames(4, 32, 48, 3, seed=9)
    table_of_pictures(tmp_path / "set", [(Image.fromarray(frame), {}) for frame in frames])
    path = tmp_path / "set/data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    cells = table.column(CAMERA).to_pylist()
    cells[2]["bytes"] = cells[2]["bytes"][: len(cells[2]["bytes"]) // 2]
    pq.write_table(table.set_column(table.column_names.index(CAMERA), CAMERA, pa.array(cells)), path)
    named = rf"file-000\.parquet, {CAMERA} of episode 0, picture 2 is damaged or truncated"
    with pytest.raises(ValueError, match=named):
        import_lerobot(tmp_path / "set", tmp_path / "again")
    cells[2]["bytes"] = b"no picture"
    pq.write_table(table.set_column(table.column_names.index(CAMERA), CAMERA, pa.array(cells)), path)
    with pytest.raises(ValueError, match="picture 2 is not a picture that Pillow can read"):
        import_lerobot(tmp_path / "set", tmp_path / "again")


def damage(film) -> None:
    content = bytearray(film.read_bytes())
    place = content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2
    content[place : place + 60] = bytes(byte ^ 0x5A for byte in content[place : place + 60])
    film.write_bytes(content)


@pytest.mark.parametrize("size", [None, (16, 16)])
def test_a_film_with_damaged_bytes_is_warned_of(dataset, tmp_path, size):
    damage(dataset / f"videos/{CAMERA}/chunk-000/file-000.mp4")
    with pytest.warns(UserWarning, match=r"file-000\.mp4 is damaged: 2\d images of about 2\d were read.*ffmpeg"):
        import_lerobot(dataset, tmp_path / "again", size=size)


def test_a_film_cut_in_half_is_refused_before_its_last_episode_is_stored(dataset, tmp_path):
    film = dataset / f"videos/{CAMERA}/chunk-000/file-000.mp4"
    film.write_bytes(film.read_bytes()[: film.stat().st_size * 6 // 10])
    with pytest.raises(ValueError, match=r"file-000\.mp4 is incomplete or damaged: \d+ images of about 2\d could be"):
        import_lerobot(dataset, tmp_path / "again")
    assert len(EpisodeStorage.open(tmp_path / "again")) < 3


def test_damage_behind_the_frames_that_are_needed_is_reported_too(dataset, tmp_path):
    """Of a film with more frames than the episodes have rows."""
    export_lerobot(make_store(tmp_path / "long", (4, 2, 5, 9)), tmp_path / "other")
    film = f"videos/{CAMERA}/chunk-000/file-000.mp4"
    content = bytearray((tmp_path / "other" / film).read_bytes())
    content[-80:-40] = bytes(byte ^ 0x5A for byte in content[-80:-40])
    (dataset / film).write_bytes(content)
    with pytest.warns(UserWarning, match=r"file-000\.mp4 is damaged"):
        import_lerobot(dataset, tmp_path / "again")


def test_an_import_that_was_stopped_resumes_and_one_of_other_settings_is_refused(dataset, tmp_path, monkeypatch):
    whole = import_lerobot(dataset, tmp_path / "whole")
    write, written = EpisodeStorage.write_block, []

    def interrupted(self, episodes, first_id):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(first_id)
        write(self, episodes, first_id)

    monkeypatch.setattr(EpisodeStorage, "write_block", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_lerobot(dataset, tmp_path / "again")
    monkeypatch.undo()
    assert len(EpisodeStorage.open(tmp_path / "again")) == 2
    again = import_lerobot(tmp_path / "set", tmp_path / "again")
    assert again.fingerprint() == whole.fingerprint()
    with pytest.raises(ValueError, match="was made with frames_per_step=2, not 1"):
        import_lerobot(tmp_path / "set", tmp_path / "again", frames_per_step=1)


def test_hidden_files_that_another_system_adds_are_left_out(dataset, tmp_path):
    store = import_lerobot(dataset, tmp_path / "store")
    for folder in ("meta", "meta/episodes/chunk-000", "data/chunk-000"):
        (dataset / folder / ".DS_Store").write_bytes(b"of a file browser")
        (dataset / folder / "._file-000.parquet").write_bytes(b"of a file system")
    assert import_lerobot(dataset, tmp_path / "store").lengths == store.lengths


def test_cameras_are_chosen_by_name_and_differ_in_size_only_when_shrunk(tmp_path):
    info = replace(INFO, views=2)
    with EpisodeStorage.create(tmp_path / "store", info) as store:
        for seed in (0, 0):
            store.append(make_store(tmp_path / f"s{len(store)}", (3,)).episode(seed))
    export_lerobot(store, tmp_path / "set")
    one = import_lerobot(tmp_path / "set", tmp_path / "one", cameras=[f"{CAMERA}_1"])
    assert one.info.views == 1 and len(one) == 1
    with pytest.raises(ValueError, match=rf"no camera 'front'; it has {CAMERA}_0, {CAMERA}_1"):
        import_lerobot(tmp_path / "set", tmp_path / "x", cameras=["front"])
    export_lerobot(make_store(tmp_path / "small", (3,), height=16), tmp_path / "other")
    film = "chunk-000/file-000.mp4"
    (tmp_path / "set" / f"videos/{CAMERA}_1" / film).write_bytes(
        (tmp_path / f"other/videos/{CAMERA}" / film).read_bytes()
    )
    with pytest.raises(ValueError, match="bring them to one size with --size, or choose with --cameras"):
        import_lerobot(tmp_path / "set", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert import_lerobot(tmp_path / "set", tmp_path / "x", size=(16, 16)).info.views == 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda root: (root / "meta/info.json").unlink(),
            FileNotFoundError,
            r"info\.json is missing.*folder that has meta/",
        ),
        (
            lambda root: change_json(root / "meta/info.json", lambda info: info.update(codebase_version="v2.1")),
            ValueError,
            r"format v2\.1, wanted v3\.0\. Convert it with LeRobot: python -m lerobot.scripts.convert",
        ),
        (
            lambda root: change_json(root / "meta/info.json", lambda info: info["features"].pop(CAMERA)),
            ValueError,
            "has no camera: the data set holds no frames",
        ),
        (
            lambda root: change_json(root / "meta/info.json", lambda info: info["features"].pop("action")),
            ValueError,
            "has no feature 'action'",
        ),
        (
            lambda root: change_json(root / "meta/info.json", lambda info: info.update(total_episodes=4)),
            ValueError,
            "describes 3 episodes, meta/info.json says 4",
        ),
        (
            lambda root: (root / "data/chunk-000/file-000.parquet").unlink(),
            FileNotFoundError,
            r"file-000\.parquet is missing: the data set is incomplete",
        ),
        (
            lambda root: (root / "data/chunk-000/file-000.parquet").write_bytes(b"PAR1 not at all PAR1"),
            ValueError,
            r"file-000\.parquet is damaged or no Parquet file.*fetch it again",
        ),
        (
            lambda root: pq.write_table(
                pq.read_table(root / "data/chunk-000/file-000.parquet").slice(1),
                root / "data/chunk-000/file-000.parquet",
            ),
            ValueError,
            "holds 7 rows of episode 0, numbered from 0 to 7 in meta/episodes: the data set is incomplete",
        ),
        *(
            (
                lambda root, name=name: without_column(root / "meta/episodes/chunk-000/file-000.parquet", name),
                ValueError,
                f"file-000.parquet lacks the column '{name}'",
            )
            for name in ("length", "data/file_index", f"videos/{CAMERA}/from_timestamp")
        ),
        (
            lambda root: (root / f"videos/{CAMERA}/chunk-000/file-000.mp4").unlink(),
            FileNotFoundError,
            r"file-000\.mp4 is missing: fetch the films",
        ),
    ],
)
def test_an_incomplete_or_foreign_data_set_is_refused_with_the_file_and_the_remedy(
    dataset, tmp_path, change, error, message
):
    change(dataset)
    with pytest.raises(error, match=message):
        import_lerobot(dataset, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames_per_step": 0}, "frames_per_step must be at least 1, got 0"),
        ({"ends": "won"}, "ends must be .* got 'won'"),
        ({"size": (0, 8)}, "size: height and width must be at least 1, got 0 × 8; omit"),
        ({"size": (-4, 8)}, "size: height and width must be at least 1, got -4 × 8; omit"),
    ],
)
def test_options_that_mean_nothing_are_refused(dataset, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        import_lerobot(dataset, tmp_path / "again", **options)


def test_a_film_that_ends_too_early_is_refused(dataset, tmp_path):
    export_lerobot(make_store(tmp_path / "short", (4,)), tmp_path / "other")
    film = f"videos/{CAMERA}/chunk-000/file-000.mp4"
    (tmp_path / "set" / film).write_bytes((tmp_path / "other" / film).read_bytes())
    with pytest.raises(
        ValueError, match=r"file-000\.mp4 holds 0 frames of episode 1, which has 4 rows.*fetch it again"
    ):
        import_lerobot(tmp_path / "set", tmp_path / "again")


def test_the_command_imports_and_says_what_it_read(dataset, tmp_path, capsys):
    assert main(["import-lerobot", str(tmp_path / "set"), "--out", str(tmp_path / "again"), "--size", "16", "16"]) == 0
    said = capsys.readouterr().out
    assert "3 episodes, 11 steps of 2 frames (16, 16, 3)" in said and "cameras shrunk from 32 × 48 to 16 × 16" in said
    assert "actions from the columns, in this order, x, y; one row per frame" in said
