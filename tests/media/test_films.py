"""Films give every image at the model's size; incomplete, damaged and invalid ones are named."""

import re
import subprocess
import tempfile
import tracemalloc
import warnings
from collections import Counter
from unittest.mock import Mock

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from worldmodel.errors import OutsideError
from worldmodel.media.films import film_speed, images_of_film
from worldmodel.media.read import read_images
from worldmodel.media.resize import area_resize

PATTERN = "testsrc2=size=64x48:rate=25:duration=2"  # 50 images


def ffmpeg(*options):
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *map(str, options)], check=True)


def make_film(path, *options, source=PATTERN):
    ffmpeg("-f", "lavfi", "-i", source, *options, path)
    return path


def read(path, channels=3, count=None):
    notes = Counter()
    return np.stack([*images_of_film(path, channels, count, notes)]), notes


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Intact films of several kinds, of 50 images with five keyframes."""
    folder = tmp_path_factory.mktemp("films")
    keys = ("-g", "10")
    make_film(folder / "a.mp4", "-movflags", "+faststart", *keys)
    make_film(folder / "last.mp4", *keys)  # with its index at its end
    for name in ("a.mkv", "a.webm"):
        make_film(folder / name, *keys)
    make_film(folder / "a.avi", "-c:v", "mpeg4", *keys)
    return folder


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.avi"])
def test_an_intact_film_gives_all_its_images_without_warnings(films, name):
    frames, notes = read(films / name)
    assert frames.shape == (50, 48, 64, 3) and not notes
    assert film_speed(films / name) == 25
    assert np.array_equal(read(films / name, count=3)[0], frames[:3])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_an_incomplete_film_is_refused_with_the_number_of_its_images(films, tmp_path, name):
    whole = (films / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    message = rf"{name} is incomplete or damaged: \d\d images of about 50 could be read \(ffmpeg.*: .*\)\. To use these"
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ffmpeg reads ahead
        assert len(read(tmp_path / name, count=5)[0]) == 5  # the requested images are there


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_a_film_damaged_in_its_middle_is_refused_or_warned_of(films, tmp_path, name):
    content = bytearray((films / name).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = bytes(byte ^ 0x5A for byte in content[middle : middle + 300])
    (tmp_path / name).write_bytes(content)
    with warnings.catch_warnings(record=True, action="always") as caught:
        try:
            read(tmp_path / name)
            said = str(caught[0].message)
        except ValueError as error:  # images are lost
            said = str(error)
    assert re.search(rf"{name} .*(is|or) damaged: \d\d images of about 50 (could be|were) read.* \(ffmpeg", said)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.mp4", b"no film " * 99, r"text\.mp4 is not a film that ffmpeg can read \(ffmpeg: moov atom not found"),
        ("text.mkv", b"no film " * 99, r"text\.mkv is not a film that ffmpeg can read \(ffmpeg: "),
        ("empty.mp4", b"", r"empty\.mp4 is empty \(0 bytes\)"),
    ],
)
def test_other_files_are_named_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    for look in (film_speed, read):
        with pytest.raises(ValueError, match=message) as caught:
            look(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_truncated_recording_is_named(films, tmp_path):
    whole = (films / "last.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"half\.mp4 is not a film .* a truncated recording lacks it"):
        read(tmp_path / "half.mp4")


def test_sound_with_or_without_a_cover_is_not_a_film(tmp_path):
    make_film(tmp_path / "sound.mp4", source="sine=d=1")
    cover = ("-map", "0:a", "-map", "1:v", "-c:a", "copy", "-c:v", "mjpeg", "-disposition:v", "attached_pic")
    ffmpeg("-i", tmp_path / "sound.mp4", "-f", "lavfi", "-i", PATTERN, "-frames:v", 1, *cover, tmp_path / "cover.mp4")
    for name in ("sound.mp4", "cover.mp4"):
        with pytest.raises(ValueError, match=rf"{name} has no video track, only sound"):
            read(tmp_path / name)


def test_a_film_is_shrunk_exactly_and_never_held_at_its_full_size(tmp_path, monkeypatch):
    path = make_film(tmp_path / "a.mp4", source="testsrc2=size=640x480:rate=20:duration=1")
    full = read(path)[0]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))  # no temporary files possible
    monkeypatch.setenv("TMPDIR", str(tmp_path / "not there"))
    tracemalloc.start()
    small = read_images(path, 3, size=(16, 16))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(small.frames, area_resize(full, 16, 16))
    assert small.notes == {"videos shrunk from 480 × 640 to 16 × 16": 1}
    assert most < full.nbytes / 2


def test_the_same_film_gives_the_same_bytes_on_every_processor(films, monkeypatch):
    """ffmpeg's fast colour conversions round differently with and without vector instructions."""
    from worldmodel.media import films as module

    plain = read(films / "a.mp4", count=10)[0]
    command = module._ffmpeg
    monkeypatch.setattr(
        module, "_ffmpeg", lambda *given: [*(found := command(*given))[:1], "-cpuflags", "0", *found[1:]]
    )
    assert np.array_equal(read(films / "a.mp4", count=10)[0], plain)


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_a_film_is_turned_as_its_rotation_says(tmp_path, angle):
    flat = make_film(tmp_path / "flat.mp4", "-c:v", "libx264rgb", "-crf", "0")
    ffmpeg("-display_rotation", angle, "-i", flat, "-c", "copy", tmp_path / "turned.mp4")
    turned, notes = read(tmp_path / "turned.mp4")
    assert np.array_equal(turned, np.rot90(read(flat)[0], angle // 90, axes=(1, 2)))
    assert notes == {"films turned upright by their rotation": 1}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mov", ("-c:v", "qtrle", "-pix_fmt", "argb")),
        ("a.mkv", ("-c:v", "ffv1", "-pix_fmt", "bgra")),
        ("deep.mov", ("-c:v", "prores_ks", "-pix_fmt", "yuva444p10le")),
        ("vp9.webm", ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p")),
        ("vp8.webm", ("-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0")),
    ],
)
def test_transparent_films_lie_over_black(tmp_path, name, options):
    source = "color=white@0.5:size=64x48:rate=10:duration=0.5,format=rgba"
    frames, notes = read(make_film(tmp_path / name, *options, source=source))
    assert frames.shape == (5, 48, 64, 3) and np.abs(frames.astype(int) - 127).max() <= 2
    assert notes["films with transparency, over black"] == 1


@pytest.mark.parametrize(
    ("pixels", "codec"),
    [("yuv420p10le", "libx264"), ("yuv444p12le", "libx265"), ("gray16le", "ffv1"), ("gray", "ffv1")],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_films_of_other_depths_keep_their_brightness(tmp_path, pixels, codec, channels):
    quiet = ("-x265-params", "log-level=none") if codec == "libx265" else ()
    source = "color=gray:size=64x64:rate=10:duration=0.3"
    path = make_film(tmp_path / "a.mkv", "-c:v", codec, "-pix_fmt", pixels, *quiet, source=source)
    frames, notes = read(path, channels)
    assert frames.shape == (3, 64, 64, channels) and np.abs(frames.astype(int) - 128).max() <= 2
    assert notes == ({} if pixels == "gray" else {"films of more than 8 bits per channel, converted to 8": 1})


def test_the_brightness_of_hdr_films_is_mentioned(tmp_path):
    hdr = "log-level=none:transfer=smpte2084:colorprim=bt2020:colormatrix=bt2020nc"
    path = make_film(tmp_path / "a.mp4", "-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", hdr)
    frames, notes = read(path)
    assert len(frames) == 50 and "HDR films, whose brightness is not mapped to that of standard screens" in notes


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_every_image_comes_once_whatever_the_times_between_them(tmp_path, ending):
    uneven = ("-vf", "setpts=N*N/250/TB", "-fps_mode", "passthrough")
    path = make_film(tmp_path / f"a{ending}", *uneven)
    assert len(read(path)[0]) == 50 and 5 < film_speed(path) < 6


def test_longer_sound_changes_neither_the_number_nor_the_speed_of_images(films, tmp_path):
    options = ("-i", films / "a.mp4", "-f", "lavfi", "-i", "sine=d=7", "-c:v", "copy", tmp_path / "long.mp4")
    ffmpeg(*options)
    assert np.array_equal(read(tmp_path / "long.mp4")[0], read(films / "a.mp4")[0])
    assert film_speed(tmp_path / "long.mp4") == 25


def test_odd_sizes_stay_odd(tmp_path):
    path = make_film(tmp_path / "a.mkv", "-c:v", "ffv1", "-pix_fmt", "bgr0", source="color=red:size=33x17:duration=0.2")
    frames = read(path)[0]
    assert (frames.shape == (5, 17, 33, 3) and (frames == (254, 0, 0)).all()) or (frames == (255, 0, 0)).all()


@pytest.mark.parametrize("name", ["-dash.mp4", "fïlm ü 映画.mp4", "a:b%03d.mp4", "concat:x.mp4", "new\nline.mp4"])
def test_names_of_films_may_be_odd(films, tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes((films / "a.mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert len(read(type(films)(name))[0]) == 50


def test_words_of_a_title_or_a_name_are_not_taken_for_tracks_or_durations(films, tmp_path):
    path, about = tmp_path / "Video: a.mp4", ("title=Our Video: part 1", "comment=Duration: 00:00:09.00, of two")
    tags = [word for text in about for word in ("-metadata", text)]
    ffmpeg("-i", films / "a.mp4", "-c", "copy", *tags, "-movflags", "+faststart", path)
    frames, notes = read(path)
    assert len(frames) == 50 and not notes and film_speed(path) == 25
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="images of about 50 could be read"):
        read(path)
    make_film(tmp_path / "song.mp4", "-metadata", "title=Video: a song", source="sine=d=1")
    with pytest.raises(ValueError, match=r"song\.mp4 has no video track"):
        read(tmp_path / "song.mp4")


def test_a_film_cannot_make_ffmpeg_open_other_files(films, tmp_path):
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile http://127.0.0.1:9/{films.name}.mp4\n")
    with pytest.raises(ValueError, match=r"list\.mp4 is not a film"):
        read(tmp_path / "list.mp4")


@pytest.mark.parametrize("number", ["KILL", "TERM"])
def test_a_killed_ffmpeg_is_not_blamed_on_the_film(films, tmp_path, monkeypatch, number):
    fake = tmp_path / "ffmpeg"
    killed = f'"{get_ffmpeg_exe()}" -f lavfi -i nullsrc -f null - & sleep 0.3; kill -s {number} $!; wait $!'
    end = "kill -s KILL $$" if number == "KILL" else "exit $?"
    fake.write_text(
        f'#!/bin/sh\ncase "$*" in\n*pipe:1*) {killed}; {end};;\n*) exec "{get_ffmpeg_exe()}" "$@";;\nesac\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(fake))
    with pytest.raises(OutsideError, match=r"ffmpeg was ended by .* while it read .*a\.mp4, which may be intact"):
        read(films / "a.mp4")


def test_a_partly_read_film_leaves_no_process(films):
    images = images_of_film(films / "a.mp4", 3, None, Counter())
    next(images)
    images.close()  # a ResourceWarning, which is an error here, if its pipes stay open


def test_a_missing_ffmpeg_and_a_missing_film_are_named(films, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4 is missing"):
        read(tmp_path / "gone.mp4")
    (tmp_path / "old").write_text("#!/bin/sh\necho \"[fatal] Unrecognized option 'fps_mode'.\" >&2; exit 1\n")
    (tmp_path / "old").chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "old"))
    with pytest.raises(OutsideError, match="this ffmpeg is too old"):
        read(films / "a.mp4")
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", Mock(side_effect=RuntimeError("No ffmpeg exe could be found")))
    with pytest.raises(OutsideError, match=r"ffmpeg is missing, .*: pip install imageio-ffmpeg"):
        read(films / "a.mp4")
