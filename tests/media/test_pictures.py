"""Pictures of all common kinds are read upright, over black and with their brightness; broken ones are named."""

import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from worldmodel.media.pictures import animation_speed, images_of_picture

Y, X = np.mgrid[0:24, 0:40]
RGB = np.stack([Y * 10, X * 6, (X + Y) * 4], axis=-1).astype(np.uint8)
GRAY = RGB[..., 1]
ALPHA = np.where(X < 20, 0, 255).astype(np.uint8)
SHADOWED = RGB * (ALPHA > 0)[..., None]  # RGB over black
TURNED = {
    1: RGB,
    2: RGB[:, ::-1],
    3: RGB[::-1, ::-1],
    4: RGB[::-1],
    5: RGB.swapaxes(0, 1),
    6: np.rot90(RGB, -1),
    7: np.rot90(RGB, 2).swapaxes(0, 1),
    8: np.rot90(RGB),
}


def read(path, channels=3):
    notes = Counter()
    return [*images_of_picture(path, channels, notes)], notes


def save(path, pixels, mode=None, **options):
    picture = Image.fromarray(pixels)
    (picture if mode is None else picture.convert(mode)).save(path, **options)
    return path


def oriented(path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    return save(path, RGB, exif=exif, **lossless)


@pytest.mark.parametrize("ending", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_read_upright(tmp_path, orientation, ending):
    images, notes = read(oriented(tmp_path / f"photo{ending}", orientation))
    assert len(images) == 1 and np.array_equal(images[0], TURNED[orientation])
    assert notes == ({"pictures turned upright by their EXIF orientation": 1} if orientation > 1 else {})


def test_a_sideways_jpeg_is_read_upright(tmp_path):
    ((photo,), _), ((upright,), _) = (read(oriented(tmp_path / f"{o}.jpg", o)) for o in (6, 1))
    assert np.array_equal(photo, np.rot90(upright, -1))


def test_transparency_lies_over_black_in_every_format(tmp_path):
    rgba = np.dstack([RGB, ALPHA])
    save(tmp_path / "rgba.png", rgba)
    save(tmp_path / "rgba.webp", rgba, lossless=True, exact=True)
    levels = (RGB // 64) * 64
    palette = Image.fromarray(levels).quantize(64)
    indices = np.where(ALPHA > 0, np.asarray(palette), 255).astype(np.uint8)
    kept = Image.fromarray(indices)
    kept.putpalette(palette.getpalette() + [0] * (768 - len(palette.getpalette())))
    kept.save(tmp_path / "palette.png", transparency=255)
    for name in ("rgba.png", "rgba.webp"):
        (image,), notes = read(tmp_path / name)
        assert np.array_equal(image, SHADOWED)
        assert notes == {"pictures with transparency, over black": 1}
    (image,), _ = read(tmp_path / "palette.png")
    assert np.array_equal(image, np.asarray(palette.convert("RGB")) * (ALPHA > 0)[..., None])
    (image,), _ = read(save(tmp_path / "la.png", np.dstack([GRAY, ALPHA])), channels=1)
    assert np.array_equal(image[..., 0], GRAY * (ALPHA > 0))
    (image,), _ = read(save(tmp_path / "key.png", RGB, transparency=(0, 0, 0)))
    assert np.array_equal(image, RGB)


def test_an_opaque_alpha_channel_is_not_mentioned(tmp_path):
    (image,), notes = read(save(tmp_path / "a.png", np.dstack([RGB, np.full_like(GRAY, 255)])))
    assert np.array_equal(image, RGB) and not notes


def test_half_transparent_pixels_are_half_as_bright(tmp_path):
    (image,), _ = read(save(tmp_path / "a.png", np.dstack([RGB, np.full_like(GRAY, 128)])))
    assert np.abs(image - RGB * (128 / 255)).max() <= 0.5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("16.png", GRAY.astype(np.uint16) * 257),
        ("16.tif", GRAY.astype(np.uint16) * 257),
        ("float.tif", (GRAY / 255).astype(np.float32)),
        ("int.tif", GRAY.astype(np.int32)),
        ("8.bmp", GRAY),
    ],
)
def test_pictures_of_other_depths_keep_their_brightness(tmp_path, name, pixels, channels):
    (image,), notes = read(save(tmp_path / name, pixels), channels)
    assert np.array_equal(image, GRAY[..., None].repeat(channels, -1))
    assert len(notes) == (0 if name == "8.bmp" else 1)


def test_other_colors_become_rgb_and_gray(tmp_path):
    for name in ("c.tif", "c.jpg"):
        (image,), notes = read(save(tmp_path / name, RGB, "CMYK", quality=100))
        assert np.abs(image.astype(int) - RGB).max() < 12 and "pictures converted from CMYK" in next(iter(notes))
    (image,), _ = read(save(tmp_path / "1.png", ALPHA, "1"), channels=1)
    assert np.array_equal(image[..., 0], ALPHA)


def test_the_brightness_of_a_picture_is_refused_if_it_is_ambiguous(tmp_path):
    with pytest.raises(ValueError, match=r"f\.tif: pixels of type float32 from 0 to 234: floats must be in \[0, 1\]"):
        read(save(tmp_path / "f.tif", GRAY.astype(np.float32)))
    with pytest.raises(ValueError, match=r"i\.tif: pixels of type int32 from 0 to 23400"):
        read(save(tmp_path / "i.tif", GRAY.astype(np.int32) * 100))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "a.bmp"])
def test_a_picture_cut_in_half_is_named_in_one_line(tmp_path, name):
    path = save(tmp_path / name, RGB)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"{name} is damaged or truncated \(") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_pictures_are_named(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("a text")
    for name, message in (("empty", "is empty"), ("text", "is not a picture that Pillow can read")):
        with pytest.raises(ValueError, match=rf"{name}\.png {message}"):
            read(tmp_path / f"{name}.png")


def test_a_picture_of_200_megapixels_is_refused_in_one_line_and_one_of_100_is_read(tmp_path, monkeypatch):
    path = save(tmp_path / "large.png", np.zeros((200, 250), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)  # 50,000 is more, and less than twice as many
    assert read(path)[0][0].shape == (200, 250, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    with pytest.raises(ValueError, match=r"large\.png has more than 40,000 pixels: shrink it"):
        read(path)


# Animations

MOVES = [np.roll(RGB, 5 * step, axis=1) for step in range(4)]


def save_moving(path, frames=MOVES, **options):
    first, *others = [Image.fromarray(frame) for frame in frames]
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    ending = "PNG" if path.suffix == ".apng" else None
    first.save(path, ending, save_all=True, append_images=others, **lossless, **options)
    return path


@pytest.mark.parametrize(("ending", "speed"), [(".gif", 20), (".webp", 20), (".apng", 20), (".tif", 0)])
def test_an_animation_gives_all_its_images_and_its_speed(tmp_path, ending, speed):
    path = save_moving(tmp_path / f"a{ending}", **({"duration": 50} if speed else {}))
    images, _ = read(path)
    assert len(images) == 4 and animation_speed(path) == pytest.approx(speed)
    for image, wanted in zip(images, MOVES, strict=True):
        assert np.abs(image.astype(int) - wanted).mean() < (6 if ending == ".gif" else 1e-9)  # a palette


@pytest.mark.parametrize(("ending", "disposal"), [(".gif", 1), (".gif", 2), (".webp", None), (".apng", 2)])
def test_animations_with_transparency_look_as_they_are_shown(tmp_path, ending, disposal):
    """A dot moves over nothing; if images are not disposed of, it leaves a trail."""
    frames = np.zeros((3, 24, 40, 4), np.uint8)
    for step in range(3):
        frames[step, 4:8, 10 * step + 2 : 10 * step + 6] = (250, 0, 0, 255)
    options = {} if disposal is None else {"disposal": disposal}
    images, _ = read(save_moving(tmp_path / f"a{ending}", frames, duration=100, **options))
    wanted = frames[..., :3]
    assert np.array_equal(np.stack(images), np.maximum.accumulate(wanted) if disposal == 1 else wanted)


def test_the_fallback_picture_of_an_apng_is_not_part_of_the_animation(tmp_path):
    images, _ = read(save_moving(tmp_path / "a.apng", [RGB * 0, *MOVES], default_image=True))
    assert np.array_equal(np.stack(images), np.stack(MOVES))


def test_the_preview_behind_a_photo_is_not_an_image(tmp_path):
    save_moving(tmp_path / "a.mpo", [RGB, RGB[::2, ::2]])
    shutil.move(tmp_path / "a.mpo", tmp_path / "a.jpg")
    assert [image.shape for image in read(tmp_path / "a.jpg")[0]] == [(24, 40, 3)]


@pytest.mark.parametrize("ending", [".webp", ".apng"])
def test_an_animation_cut_in_half_is_refused(tmp_path, ending):
    path = save_moving(tmp_path / f"a{ending}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"a{ending} is damaged or truncated"):
        read(path)


def test_a_gif_that_ends_between_two_images_is_warned_of(tmp_path):
    path = save_moving(tmp_path / "a.gif")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.warns(UserWarning, match=r"a\.gif is incomplete: 4 images can be read"):
        assert len(read(path)[0]) == 4
    path.write_bytes(whole[:-500])  # within an image
    with pytest.warns(UserWarning, match="is incomplete"), pytest.raises(ValueError, match="damaged or truncated"):
        read(path)
