"""Importing the user's own videos: every source, the time rule, interruptions, and refusals."""

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from worldmodel.data import EpisodeStorage
from worldmodel.data.user_video import importer as module
from worldmodel.data.user_video.importer import import_video
from worldmodel.media.resize import area_resize
from worldmodel.media.write import write_video
from worldmodel.training.cli.main import main


def make_video(num_frames=7, seed=0, height=16, width=24, channels=3):
    return np.random.default_rng(seed).integers(256, size=(num_frames, height, width, channels), dtype=np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def save_pictures(folder, frames):
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame_{i}.png")  # frame_10 after frame_2: natural order
    return folder


def shown(store, episode=0):
    """The frames of an episode in order, the first one once."""
    frames = store.frames(episode)
    return np.concatenate((frames[0, -1:], frames[1:].reshape(-1, *frames.shape[2:])))


@pytest.mark.parametrize("kind", ["npy", "npz", "pictures"])
def test_frames_and_numbers_follow_the_time_rule(tmp_path, kind):
    frames = make_video(12)
    video = tmp_path / f"video.{kind}"
    if kind == "npy":
        save(video, frames)
    elif kind == "npz":
        np.savez(video, frames=frames)
    else:
        save_pictures(video, frames)
    actions = np.random.default_rng(1).normal(size=(12, 3))
    store = import_video(
        [video], tmp_path / "store", actions=[save(tmp_path / "actions.npy", actions)], frames_per_step=2
    )
    assert store.lengths == [6] and store.ended(0) == (False, False)
    np.testing.assert_array_equal(shown(store), frames[[*range(12), 11]])
    np.testing.assert_array_equal(store.frames(0)[0], frames[[0, 0]])
    in_a_row = store.actions(0).reshape(-1, 3)
    np.testing.assert_array_equal(in_a_row[:11], actions[:11].astype(np.float32))
    assert (in_a_row[11] == 0).all()  # padding: there is no twelfth action
    assert not list((store.root / "data" / "pending").iterdir())


def test_an_mp4_gives_all_its_images(tmp_path):
    frames = np.repeat(np.arange(0, 240, 20, dtype=np.uint8)[:, None, None, None], 32, 1).repeat(32, 2).repeat(3, 3)
    write_video(tmp_path / "clip.mp4", frames, fps=7)
    store = import_video(
        [tmp_path / "clip.mp4"],
        tmp_path / "s",
        actions=[save(tmp_path / "a.npy", np.arange(12) % 3)],
        frames_per_step=1,
    )
    assert store.lengths == [11] and store.info.action.n == 3
    assert np.abs(shown(store).astype(int) - frames).max() < 6  # lossy
    np.testing.assert_array_equal(store.actions(0), np.arange(11) % 3)


def test_a_folder_of_videos_finds_its_actions_by_name(tmp_path):
    videos = {f"clip{i}": make_video(5 + 2 * i, seed=i) for i in (1, 2, 10)}
    for name, frames in videos.items():
        save(tmp_path / "videos" / f"{name}.npy", frames)
        (tmp_path / "actions").mkdir(exist_ok=True)
        (tmp_path / "actions" / f"{name}.csv").write_text("\n".join(["1"] * len(frames)))
    store = import_video([tmp_path / "videos"], tmp_path / "store", actions=[tmp_path / "actions"])
    assert store.lengths == [3, 4, 12]
    for episode, frames in enumerate(videos.values()):
        np.testing.assert_array_equal(shown(store, episode)[: len(frames)], frames)


def test_frames_are_shrunk_by_area(tmp_path):
    frames = make_video(4, height=32, width=48)
    actions = save(tmp_path / "a.npy", np.zeros(4, int))
    wanted = area_resize(frames, 8, 12)
    for video in (save(tmp_path / "v.npy", frames), save_pictures(tmp_path / "v", frames)):
        store = import_video([video], tmp_path / f"s{video.suffix}", actions=[actions], size=(8, 12))
        np.testing.assert_array_equal(shown(store)[:4], wanted)
    with pytest.raises(ValueError, match=r"v\.npy: frames can only be shrunk, not enlarged: requested 64 × 12"):
        import_video([tmp_path / "v.npy"], tmp_path / "bigger", actions=[actions], size=(64, 12))


def test_frames_are_cropped_to_the_proportions_of_the_size(tmp_path, capsys):
    frames = make_video(4, height=32, width=48)
    wanted = area_resize(frames[:, :, 8:40], 16, 16)
    for video in (save(tmp_path / "v.npy", frames), save_pictures(tmp_path / "v", frames)):
        store = import_video([video], tmp_path / f"s{video.suffix}", size=(16, 16), crop="center")
        np.testing.assert_array_equal(shown(store)[:4], wanted)
    assert "videos cropped from 32 × 48 to their central 32 × 32: 1" in capsys.readouterr().out
    for options, problem in (({"crop": "center"}, "give that too"), ({"crop": "top"}, "'none' or 'center', got 'top'")):
        with pytest.raises(ValueError, match=problem):
            import_video([tmp_path / "v.npy"], tmp_path / "none", **options)
    with pytest.raises(ValueError, match=r"crop"):  # the frames of an import are all made alike
        import_video([tmp_path / "v"], tmp_path / "s", size=(16, 16))


@pytest.mark.parametrize("tail", [(), (1,)])
def test_gray_frames_may_lack_their_axis(tmp_path, tail):
    frames = make_video(4, channels=1)
    video = save(tmp_path / "v.npy", frames.reshape(4, 16, 24, *tail))
    store = import_video([video], tmp_path / "s", actions=[save(tmp_path / "a.npy", np.zeros(4, int))], channels=1)
    np.testing.assert_array_equal(shown(store)[:4], frames)


def test_folders_that_look_alike_give_equal_stores(tmp_path, capsys):
    """Folders of opaque, transparent and palette pictures, upright and turned, of 8 and 16 bits."""
    shades = np.repeat(np.uint8([0, 40, 90, 200]), 6)[None, :, None].repeat(16, 0)
    frames = np.stack([np.roll(shades, step, axis=1) for step in range(4)])  # (4, 16, 24, 1)
    rgb = frames.repeat(3, -1)
    nothing = np.where(frames > 0, 255, 0).astype(np.uint8)
    hidden = np.where(frames > 0, rgb, 77).astype(np.uint8)  # an invisible color
    turned = Image.Exif()
    turned[0x0112] = 3
    for number in range(4):
        name = f"{number}.png"
        for kind in ("rgb", "rgba", "palette", "gray", "deep", "turned"):
            (tmp_path / kind).mkdir(exist_ok=True)
        Image.fromarray(rgb[number]).save(tmp_path / "rgb" / name)
        Image.fromarray(np.dstack([hidden[number], nothing[number]])).save(tmp_path / "rgba" / name)
        palette = Image.fromarray(hidden[number]).quantize(8)
        clear = palette.getpixel((number, 0))
        assert palette.convert("RGB").getpixel((number, 0)) == (77, 77, 77)
        palette.save(tmp_path / "palette" / name, transparency=clear)
        Image.fromarray(frames[number, ..., 0]).save(tmp_path / "gray" / name)
        Image.fromarray(frames[number, ..., 0].astype(np.uint16) * 257).save(tmp_path / "deep" / name)
        Image.fromarray(rgb[number, ::-1, ::-1]).save(tmp_path / "turned" / name, exif=turned)
    said = {}
    for kind in ("rgb", "rgba", "palette", "gray", "deep", "turned"):
        store = import_video([tmp_path / kind], tmp_path / f"{kind}.store")
        np.testing.assert_array_equal(shown(store)[:4], rgb, err_msg=kind)
        said[kind] = capsys.readouterr().out
    assert "pictures with transparency, over black: 4" in said["rgba"] and "transparency" in said["palette"]
    assert "pictures of 16 bits per channel, converted to 8: 4" in said["deep"]
    assert "pictures turned upright by their EXIF orientation: 4" in said["turned"]
    assert "pictures" not in said["rgb"] + said["gray"]


def test_pictures_in_folders_hold_one_image_each_and_hidden_files_are_left_out(tmp_path):
    folder = save_pictures(tmp_path / "v", make_video(4))
    (folder / "._frame_1.png").write_bytes(b"left by a file system")
    assert import_video([folder], tmp_path / "s").lengths == [2]
    moving = [Image.fromarray(frame) for frame in make_video(3)]
    moving[0].save(folder / "frame_5.webp", save_all=True, append_images=moving[1:])
    with pytest.raises(ValueError, match=r"frame_5\.webp holds several images: give it as a separate video"):
        import_video([folder], tmp_path / "t")
    assert import_video([folder / "frame_5.webp"], tmp_path / "u", frames_per_step=1).lengths == [2]
    Image.fromarray(make_video(1)[0][:8]).save(folder / "frame_5.webp")
    with pytest.raises(ValueError, match=r"the images of .*v have different sizes: .* 16 × 24, number 5 8 × 24"):
        import_video([folder], tmp_path / "w")


def test_hidden_files_and_folders_beside_videos_are_left_out(tmp_path):
    save(tmp_path / "v" / "a.npy", make_video(4))
    (tmp_path / "v" / "._a.npy").write_bytes(b"left by a file system")
    save_pictures(tmp_path / "v" / ".thumbnails", make_video(3))
    assert import_video([tmp_path / "v"], tmp_path / "s").lengths == [2]


def test_pictures_beside_videos_are_not_taken_for_the_only_video(tmp_path):
    save_pictures(tmp_path / "v" / "covers", make_video(2))
    assert import_video([tmp_path / "v"], tmp_path / "s").lengths == [1]
    for number in range(2):
        Image.fromarray(make_video(1)[0]).save(tmp_path / "v" / f"{number}.png")
        write_video(tmp_path / "v" / f"{number}.gif", make_video(4), fps=10)
    with pytest.raises(ValueError, match=r"v holds pictures \(0\.png, …\) and videos \(0\.gif, …\)"):
        import_video([tmp_path / "v"], tmp_path / "t")


@pytest.mark.parametrize("name", ["v.mp4", "v/frame_2.png"])
def test_the_command_names_a_broken_file_in_one_line(tmp_path, capsys, name):
    save_pictures(tmp_path / "v", make_video(4))
    write_video(tmp_path / "v.mp4", make_video(8, height=32, width=32), fps=10)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    video = tmp_path / name.split("/")[0]
    assert main(["import-video", str(video), "--out", str(tmp_path / "s")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith(f"error: {path} ")
    assert not (tmp_path / "s").exists()


def test_the_summary_mentions_damaged_films(tmp_path, capsys, monkeypatch):
    (path,) = write_video(tmp_path / "v.mp4", make_video(6, height=32, width=32), fps=10)
    complaining = tmp_path / "ffmpeg"
    complaining.write_text(
        f'#!/bin/sh\necho "[h264 @ 0x1] [error] ac-tex damaged" >&2\nexec "{get_ffmpeg_exe()}" "$@"\n'
    )
    complaining.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(complaining))
    with pytest.warns(UserWarning, match=r"v\.mp4 is damaged: 6 images of about 6 were read.*ac-tex damaged"):
        import_video([path], tmp_path / "s")
    assert "\ndamaged films, named in the warnings: 1\n" in capsys.readouterr().out


def test_rewards_signals_and_ends_are_kept(tmp_path):
    (tmp_path / "a.csv").write_text("reward,act,score\n" + "\n".join(f"{t},{t // 2 % 2},{10 * t}" for t in range(5)))
    store = import_video(
        [save(tmp_path / "v.npy", make_video(5))],
        tmp_path / "s",
        actions=[tmp_path / "a.csv"],
        reward="reward",
        signals=["score"],
        ends="terminated",
        action_names=["left", "right"],
        name="Mine",
    )
    assert store.rewards(0).tolist() == [1, 5] and store.actions(0).tolist() == [0, 1]
    assert store.signals(0)[:, 0].tolist() == [0, 20, 40] and store.ended(0) == (True, False)
    assert (store.info.env_id, store.info.reward, store.info.signal_names) == ("Mine", "native", ("score",))
    assert store.info.action.names == ("left", "right")


def test_a_stopped_import_resumes(tmp_path, monkeypatch):
    videos = [save(tmp_path / f"v{i}.npy", make_video(5, seed=i)) for i in range(3)]
    actions = [save(tmp_path / f"a{i}.npy", np.zeros(5, int)) for i in range(3)]
    real = EpisodeStorage.append

    def append(store, episode):
        if len(store) == 2:
            raise KeyboardInterrupt
        return real(store, episode)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EpisodeStorage, "append", append)
        import_video(videos, tmp_path / "s", actions=actions)
    assert len(EpisodeStorage.open(tmp_path / "s")) == 2
    store = import_video(videos, tmp_path / "s", actions=actions)
    assert len(store) == 3
    for i in range(3):
        np.testing.assert_array_equal(shown(store, i), make_video(5, seed=i))
    with pytest.raises(ValueError, match="was made with frames_per_step=2, not 1"):
        import_video(videos, tmp_path / "s", actions=actions, frames_per_step=1)


def test_videos_may_come_without_actions(tmp_path, capsys):
    videos = [save(tmp_path / f"v{i}.npy", make_video(5 + i, seed=i)) for i in range(2)]
    store = import_video(videos, tmp_path / "s")
    assert store.lengths == [2, 3] and store.info.action.names == ("none",) and not store.actions(1).any()
    np.testing.assert_array_equal(shown(store), make_video(5))
    said = capsys.readouterr().out
    assert "\nno actions\n" in said
    assert "no episode is in test: training needs ten videos or more" in said
    assert main(["import-video", str(videos[0]), "--out", str(tmp_path / "cli")]) == 0
    needless = {"reward": "win", "signals": ["hp"], "action_names": ["a"], "action_limit": [1.0], "action_kind": "box"}
    for name, value in needless.items():
        with pytest.raises(ValueError, match=f"{name} need files of actions"):
            import_video(videos, tmp_path / "t", **{name: value})
    with pytest.raises(ValueError, match="fps must be above 0"):
        import_video(videos, tmp_path / "t", fps=-3)


@pytest.mark.parametrize(("ending", "fps", "speed"), [(".mp4", None, 5.0), (".gif", None, 5.0), (".mp4", 30, 15.0)])
def test_a_store_knows_how_fast_its_videos_were(tmp_path, ending, fps, speed):
    (video,) = write_video(tmp_path / f"v{ending}", make_video(8, height=32, width=32), fps=10)
    assert import_video([video], tmp_path / "s", fps=fps).info.steps_per_second == pytest.approx(speed)
    pictures = save_pictures(tmp_path / "pictures", make_video(4))
    assert import_video([pictures], tmp_path / "t").info.steps_per_second == 0


def test_the_summary_shows_splits_and_short_bounds(tmp_path, capsys):
    actions = save(tmp_path / "a.npy", np.full((4, 2), [0.123456789, -2]))
    import_video([save(tmp_path / "v.npy", make_video(4))] * 12, tmp_path / "s", actions=[actions] * 12)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("12 episodes, 24 steps of 2 frames (16, 24, 3): ") and " train, " in said[0]
    assert said[1] == "box actions: 4 from (0, -2, 0, -2) to (0.1235, 0, 0.1235, 0)"
    assert said[2] == "speed unknown, because the videos do not state it: set it with --fps"
    assert "multiples of 16" in said[3]
    assert said[4:] == [
        "actions from the columns, in this order, 0, 1; one row per frame",
        "odd: 0 (0.1235), 1 (-2) never change",
    ]


def test_the_summary_says_how_actions_were_interpreted(tmp_path, capsys):
    def said(text, **options):
        (tmp_path / "a.csv").write_text(text)
        name = f"s{len(list(tmp_path.iterdir()))}"
        import_video(
            [save(tmp_path / "v.npy", make_video(4))], tmp_path / name, actions=[tmp_path / "a.csv"], **options
        )
        return capsys.readouterr().out.splitlines()[1:]

    lines = said("act;x\r\n1,0;0,5\r\n1,0;0\r\n3,0;0\r\n3,0;1\r\n", action_columns=["act"])
    assert lines[0] == "discrete actions: 4" and lines[3:] == [
        "no episode is in validation and test: training needs ten videos or more",
        "actions from the column act; one row per frame",
        "read as separated by semicolons: a.csv",
        "read as decimal commas: a.csv",
        "shares: 0 0%, 1 50%, 2 0%, 3 50%",
        "discrete because they are integers from 0 on; if they are quantities, import with --action-kind box",
        "odd: no step has 0, 2, so a model cannot learn what that does",
    ]
    lines = said("act\nleft\nleft\n", action_names=["left", "right"])
    assert "actions from the column act; one row per step" in lines
    assert "odd: every action is 0 left, so a model cannot learn what actions do" in lines
    assert "discrete because they are words" in said("left\nleft\nup\nup\n")
    lines = said("dx,up\n0,1\n1,0\n0,1\n0,1\n", frames_per_step=1)
    assert "discrete because they are one-hot rows; if they are quantities, import with --action-kind box" in lines
    assert "shares: 0 dx 33%, 1 up 67%" in lines
    assert any("0 or 1 and several may be 1 at once" in line for line in said("1,1\n1,0\n0,1\n0,1\n"))
    assert "odd: large values in x (9.9e+04): a time or a counter?" in said("x\n0.5\n99000\n1\n2\n")


def test_videos_of_different_speeds_are_reported_as_odd(tmp_path, capsys):
    videos = [write_video(tmp_path / f"v{fps}.gif", make_video(8), fps=fps)[0] for fps in (10, 20)]
    import_video(videos, tmp_path / "s")
    said = capsys.readouterr().out
    assert "5 steps per second (10 frames), from v10.gif" in said
    assert "odd: the videos run at 10 to 20 frames per second; the store keeps 10, from v10.gif" in said


def test_a_folder_without_a_table_says_what_else_there_is(tmp_path):
    save(tmp_path / "v" / "clip.npy", make_video(4))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "clip.json").write_text("[]")
    with pytest.raises(ValueError, match=r"needs one file clip with the ending \.csv, .* there is clip\.json"):
        import_video([tmp_path / "v"], tmp_path / "s", actions=[tmp_path / "a"])


def test_an_import_resumes_only_with_the_same_content(tmp_path):
    """Otherwise the store would mix episodes of the old and the new files."""
    pictures = save_pictures(tmp_path / "v", make_video(5))
    actions = save(tmp_path / "a.npy", np.zeros(5, int))
    import_video([pictures], tmp_path / "s", actions=[actions])
    save(actions, np.ones(5, int))
    with pytest.raises(ValueError, match=r"was made with content of .*a\.npy"):
        import_video([pictures], tmp_path / "s", actions=[actions])
    save(actions, np.zeros(5, int))
    (pictures / "frame_4.png").rename(pictures / "frame_5.png")
    with pytest.raises(ValueError, match=r"was made with content of .*v="):
        import_video([pictures], tmp_path / "s", actions=[actions])


def test_nothing_is_written_where_a_later_video_cannot_be_read(tmp_path):
    videos = [save(tmp_path / f"v{i}.npy", make_video(5)) for i in range(2)]
    good, bad = save(tmp_path / "a0.npy", np.zeros(5, int)), save(tmp_path / "a1.npy", np.array([0, 1, 1, 0, 0]))
    with pytest.raises(ValueError, match=r"a1\.npy: the action changes within a step"):
        import_video(videos, tmp_path / "s", actions=[good, bad])
    assert not (tmp_path / "s").exists()
    assert import_video(videos, tmp_path / "s", actions=[good, bad], frames_per_step=1).lengths == [4, 4]


@pytest.mark.parametrize(
    ("frames", "actions", "options", "message"),
    [
        (make_video(9), np.zeros(6, int), {}, r"a\.npy has 6 actions, its video 9 frames: expected 9 or 8"),
        (make_video(1), np.zeros(1, int), {}, r"v\.npy: wanted at least 2 frames"),
        (make_video(5) * 1.0, np.zeros(5, int), {}, r"v\.npy: pixels of type float64 .*floats must be in \[0, 1\]"),
        (
            make_video(5).transpose(0, 3, 1, 2),
            np.zeros(5, int),
            {},
            r"v\.npy: wanted .* got \(5, 3, 16, 24\); their chan",
        ),
        (make_video(5, channels=4), np.zeros(5, int), {}, r"v\.npy: wanted .* seem to have an alpha channel"),
        (make_video(5), np.zeros((5, 2, 2)), {}, r"a\.npy: actions must be numbers of shape \(K,\) or \(K, A\)"),
        (make_video(5), np.full((5, 2), np.nan), {}, r"a\.npy: no row of actions has only finite"),
        (make_video(5), np.array([0, 1, 1, 0, 0]), {}, "the action changes within a step, from 0 to 1 at entry 1"),
        (make_video(5), np.ones((5, 2)), {"action_limit": [0.5]}, r"from \[0\. 0\.\] to \[1\. 1\.\], beyond the limit"),
        (make_video(5), np.zeros(5, int), {"frames_per_step": 0}, "frames_per_step must be at least 1"),
        (make_video(5), np.zeros(5, int), {"reward": "prize"}, r"a\.npy has no column 'prize'\. Valid: actions"),
    ],
)
def test_unusable_files_are_named(tmp_path, frames, actions, options, message):
    with pytest.raises(ValueError, match=message):
        import_video(
            [save(tmp_path / "v.npy", frames)], tmp_path / "s", actions=[save(tmp_path / "a.npy", actions)], **options
        )


def test_mistakes_are_found_before_anything_is_written(tmp_path):
    videos = [save(tmp_path / f"v{i}.npy", make_video(5, height=16 + 4 * i)) for i in range(2)]
    actions = [save(tmp_path / "a.npy", np.zeros(5, int))] * 2
    with pytest.raises(ValueError, match=r"v1\.npy has frames of \(20, 24, 3\).* --size"):
        import_video(videos, tmp_path / "s", actions=actions)
    with pytest.raises(ValueError, match="2 videos need as many files of actions, got 1"):
        import_video(videos, tmp_path / "s", actions=actions[:1])
    with pytest.raises(ValueError, match=r"needs one file v0 .* there is none"):
        (tmp_path / "empty").mkdir()
        import_video(videos, tmp_path / "s", actions=[tmp_path / "empty"])
    with pytest.raises(ValueError, match="holds no videos"):
        import_video([tmp_path / "empty"], tmp_path / "s", actions=actions)
    with pytest.raises(FileNotFoundError, match="nothing is missing"):
        import_video([tmp_path / "nothing"], tmp_path / "s", actions=actions)
    assert not (tmp_path / "s").exists()


def test_the_command_imports(tmp_path, capsys):
    save(tmp_path / "v.npy", make_video(6))
    (tmp_path / "a.csv").write_text("\n".join("0.5,-1" for _ in range(5)))
    command = [
        "import-video",
        str(tmp_path / "v.npy"),
        "--actions",
        str(tmp_path / "a.csv"),
        "--out",
        str(tmp_path / "s"),
    ]
    assert main([*command, "--frames-per-step", "1", "--size", "8", "8", "--action-limit", "1"]) == 0
    printed = capsys.readouterr().out
    assert "1 episode, 5 steps of 1 frame (8, 8, 3)" in printed
    assert "box actions: 2 from (-1, -1) to (1, 1)" in printed
    assert main([*command, "--frames-per-step", "2"]) == 2
    assert "was made with" in capsys.readouterr().err
    assert module.SETTINGS in [path.name for path in (tmp_path / "s").iterdir()]


@pytest.mark.parametrize("size", ["0 0", "0 8", "-4 8"])
def test_sizes_below_one_are_refused_in_one_line(tmp_path, capsys, size):
    video = save(tmp_path / "v.npy", make_video())
    assert main(["import-video", str(video), "--out", str(tmp_path / "store"), "--size", *size.split()]) == 2
    said = capsys.readouterr().err
    assert "size: height and width must be at least 1, got" in said and "Traceback" not in said
    assert not (tmp_path / "store").exists()
