"""Pictures of codes: their rows, colours and layout."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.pixelcnn_world import pixelcnn_world
from tests.tiny import tiny_world
from tests.training.recorded import recorded_store
from worldmodel.data import EpisodeStorage
from worldmodel.data.regroup import regroup
from worldmodel.media.captions import GAP
from worldmodel.media.code_colors import CHANGED, SAME, UNKNOWN, code_colors
from worldmodel.tokenizer import (
    CodebookConfig,
    FrameVQVAE,
    FrameVQVAEConfig,
    HierarchicalVQVAE,
    HierarchicalVQVAEConfig,
)
from worldmodel.tokenizer.files import save_tokenizer
from worldmodel.training.show import codes as module
from worldmodel.training.show.codes import ShowCodesConfig, draw_codes, show_codes

CONFIG = ShowCodesConfig(steps=3, scale=1)
LEFT = module._LABEL_WIDTH + 2 * GAP  # of the first picture of a row


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return recorded_store(tmp_path_factory.mktemp("store") / "data", lengths=(20,) * 20)


def frame_tokenizer() -> FrameVQVAE:
    torch.manual_seed(0)
    codebook = CodebookConfig(num_codes=16, num_slices=2, code_dim=4)
    config = FrameVQVAEConfig(height=16, width=16, frames_per_step=2, stage_widths=(4, 8), codebook=codebook)
    return FrameVQVAE(replace(config, residual_units=4)).eval()


def hierarchy() -> HierarchicalVQVAE:
    torch.manual_seed(0)
    codebook = CodebookConfig(num_codes=16, num_slices=1, code_dim=4)
    config = HierarchicalVQVAEConfig(height=16, width=16, clip_steps=2, stage_widths=(4, 8), codebook=codebook)
    return HierarchicalVQVAE(config).eval()


def rows_of(monkeypatch, *arguments, **options) -> list[tuple[str, np.ndarray]]:
    """Name and images of each row that is drawn."""
    rows, draw = [], module._row

    def listen(name, images, cell):
        rows.append((name, images))
        return draw(name, images, cell)

    monkeypatch.setattr(module, "_row", listen)
    show_codes(*arguments, **options)
    return rows


def test_a_code_has_the_same_colour_everywhere_and_no_two_codes_share_one():
    colors = code_colors(2048)
    assert (code_colors(16) == colors[:16]).all() and len(np.unique(colors, axis=0)) == 2048


def test_codes_are_below_their_frame_and_changes_are_yellow():
    frames = {"real": np.full((2, 2, 4, 4, 1), 200, np.uint8)}  # two steps of two gray frames
    codes = np.zeros((2, 2, 2, 2), np.int64)
    codes[1, 0, 1, 0] = 5  # of the third frame, and back to 0 in the fourth
    image = draw_codes(frames, {"slice 0": codes}, scale=2)
    wide = 8
    assert image.shape == (3 * (wide + GAP), module._LABEL_WIDTH + 2 * (2 * wide + GAP + 3 * GAP), 3)
    third, fourth = LEFT + 2 * wide + 4 * GAP, LEFT + 3 * wide + 5 * GAP
    assert (image[:wide, third : third + wide] == 200).all()
    colored, changed = image[wide + GAP :], image[2 * (wide + GAP) :]
    corner = slice(4, 8), slice(third, third + 4)  # row 1, column 0 of the codes, of four pixels each
    assert (colored[corner] == code_colors(6)[5]).all()
    assert (colored[:4, third : third + 8] == code_colors(1)[0]).all()
    assert (changed[corner] == CHANGED).all() and (changed[4:8, fourth : fourth + 4] == CHANGED).all()
    assert (changed[:4, third : third + 8] == SAME).all()
    assert (changed[:8, LEFT : LEFT + 8] == UNKNOWN).all()


def test_each_codebook_of_a_frame_tokenizer_is_a_row_with_an_image_per_frame(tmp_path, store, monkeypatch):
    tokenizer = frame_tokenizer()
    folder = save_tokenizer(tmp_path / "tokenizer", tokenizer)
    rows = rows_of(monkeypatch, folder, data=store.root, out=tmp_path / "a.png", config=CONFIG, device="cpu")
    names = ["real frames", "reconstructed", *(f"{what}: slice {i}" for what in ("codes", "changed") for i in (0, 1))]
    assert [name for name, _ in rows] == names
    real, seen = (torch.from_numpy(images.copy())[None] for _, images in rows[:2])
    codes = tokenizer.encode(real)
    assert torch.equal(seen, tokenizer.decode(codes))
    assert (rows[3][1][:, 1] == code_colors(16)[codes[0, :, :, :, 3]]).all()  # slice 1 of the second frames
    with Image.open(tmp_path / "a.png") as image:
        assert image.size[1] == len(names) * (16 + GAP)


def test_the_hierarchy_is_shown_with_its_top_alone(tmp_path, store, monkeypatch):
    tokenizer = hierarchy()
    four = EpisodeStorage.open(regroup(store, tmp_path / "four", 4))
    rows = dict(rows_of(monkeypatch, tokenizer, data=four, out=tmp_path / "a.png", config=replace(CONFIG, steps=2)))
    assert list(rows)[:5] == ["real frames", "reconstructed", "top alone", "codes: top", "codes: bottom"]
    codes = tokenizer.encode(torch.from_numpy(rows["real frames"].copy())[None])
    assert (rows["top alone"] == tokenizer.decode_top(codes).numpy()[0]).all()
    assert rows["codes: top"].shape == (2, 1, 2, 2, 3) and rows["codes: bottom"].shape == (2, 2, 4, 4, 3)


def test_a_world_model_also_shows_what_it_generates(tmp_path, store, monkeypatch):
    world = tiny_world()
    rows = rows_of(monkeypatch, world, data=store, out=tmp_path / "a.png", config=replace(CONFIG, n=2, seed=4))
    parts = [name for name, _ in rows]
    assert parts == parts[:11] * 2 and parts[6] == "generated frames" and "changed: slice 1" in parts[7:11]
    real = np.stack([images for name, images in rows if name == "real frames"])
    made = np.stack([images for name, images in rows if name == "generated frames"])
    again = [store.segment(each, 2) for each in module.real_clips(store, 2, 3, "test", 4)]
    assert (real == np.stack([segment.frames for segment in again])).all()
    actions = np.stack([segment.actions for segment in again])
    video = world.sample(2, 3, first_frames=real[:, :1].copy(), actions=actions, seeds=[4, 5])
    assert (made == video.frames.numpy()).all()
    drawn = next(images for name, images in rows[7:] if name == "codes: slice 0")
    assert (drawn[:, 0] == code_colors(16)[video.codes[0, ..., 0]]).all()


@pytest.mark.parametrize(
    "changes", [{}, {"subscale": (1, 2, 2), "clip_frames": 4, "kernel": (1, 3, 3)}], ids=["frame", "clip"]
)
def test_a_latent_video_transformer_generates_codes_of_each_frame(tmp_path, store, monkeypatch, changes):
    world = tiny_world(net="subscale", frames_alone=True, **changes)
    rows = dict(rows_of(monkeypatch, world, data=store, out=tmp_path / "a.png", config=ShowCodesConfig(scale=1)))
    batch = store.batch(module.real_clips(store, 1, 2 if changes else 8, "test", 0))  # the whole clip, or 8 steps
    video = world.sample(1, batch.frames.shape[1], batch.frames[:, :1], batch.actions)
    assert (rows["generated frames"] == video.frames[0].numpy()).all()
    assert (rows["codes: slice 1"][:, 1] == code_colors(16)[video.codes[0, ..., 3]]).all()  # of the second frames


def test_a_hierarchy_generates_both_levels_after_one_given_step(tmp_path, store, monkeypatch):
    world, four = pixelcnn_world(), EpisodeStorage.open(regroup(store, tmp_path / "four", 4))
    rows = dict(rows_of(monkeypatch, world, data=four, out=tmp_path / "a.png", config=ShowCodesConfig(scale=1)))
    batch = four.batch(module.real_clips(four, 1, 3, "test", 0))
    video = world.sample(1, 3, batch.frames[:, :1], batch.actions)
    assert (rows["generated frames"] == video.frames[0].numpy()).all()
    assert (rows["top alone"] == world.tokenizer.decode_top(video.codes)[0].numpy()).all()
    assert (rows["codes: top"][:, 0] == code_colors(16)[video.codes[0, ..., 0]]).all()


def test_the_share_of_changed_codes_is_reported(tmp_path, store):
    tokenizer = frame_tokenizer()
    shown = show_codes(tokenizer, store, tmp_path / "a.png", CONFIG)
    batch = store.batch(module.real_clips(store, 1, 3, "test", 0))
    first = tokenizer.code_maps(tokenizer.encode(batch.frames))["slice 0"].flatten(1, 2)
    share = (first[:, 1:] != first[:, :-1]).float().mean()
    assert shown.changed["real"]["slice 0"] == pytest.approx(float(share))
    assert f"real slice 0: {share:.1%} of the codes" in str(shown)
    with Image.open(shown.file) as image:
        assert (np.asarray(image) == shown.image).all()


def test_mistakes_are_reported_before_anything_is_written(tmp_path, store):
    with pytest.raises(ValueError, match=r"must be a \.png file, got 'a\.gif'"):
        show_codes(frame_tokenizer(), store, tmp_path / "a.gif", CONFIG)
    with pytest.raises(ValueError, match=r"\(2, 16, 16, 3\).* 4 frames: collect with --env-kwargs frames_per_step=4"):
        show_codes(hierarchy(), store, tmp_path / "a.png", CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_a_temperature_is_refused_where_nothing_is_generated(tmp_path, store):
    with pytest.raises(ValueError, match=r"temperature 0\.5 does nothing without a world model"):
        show_codes(frame_tokenizer(), store, tmp_path / "a.png", ShowCodesConfig(temperature=0.5))
