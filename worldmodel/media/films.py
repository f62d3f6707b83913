"""Read films by piping images from ffmpeg; report every error that ffmpeg reports.

Letters: H W C pixels.
"""

import re
import signal
import subprocess
import warnings
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from threading import Thread
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.errors import OutsideError
from worldmodel.media.pictures import flatten
from worldmodel.progress import progress_if_long

FILMS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")

_MOST_LINES = 200  # of ffmpeg's output to keep: the first and the latest ones
# Decoders with transparency; ffmpeg's own decoders of these formats ignore it.
_TRANSPARENT = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


class _Header(NamedTuple):
    """Metadata of a film."""

    options: list[str]  # for ffmpeg, before the input
    rate: float  # average images per second; 0 if unknown
    seconds: float | None
    images: int | None  # expected number: rate × seconds
    notes: list[str]


def images_of_film(path: Path, channels: int, count: int | None, notes: Counter[str]) -> Generator[NDArray[np.uint8]]:
    """Yield at most `count` images of a film, (H, W, C) uint8, with the film's rotation applied.

    Every image is yielded once, whatever its duration, because actions belong to images. The same file gives the same
    bytes on every processor.

    Args:
        channels: 3, or 1 for gray.
        notes: counts conversions, by description.

    Raises:
        ValueError: names a file that is not a film or is incomplete. Damage without lost images is a UserWarning.
        OutsideError: ffmpeg is missing or was killed.
    """
    header = _read_header(path)
    notes.update(header.notes)
    limit = [] if count is None else ["-frames:v", str(count)]
    exact = ["-sws_flags", "accurate_rnd+bitexact"]
    output = ["-map", "0:V:0", *limit, "-fps_mode", "passthrough", *exact, "-c:v", "pam", "-f", "image2pipe", "pipe:1"]
    expected = header.images if count is None or header.images is None else min(count, header.images)
    with (
        subprocess.Popen(
            [*_ffmpeg(path, header.options), *output], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
        progress_if_long(expected, "image", f"read {path.name}") as bar,
    ):
        assert process.stdout is not None and process.stderr is not None
        said: list[str] = []
        listener = Thread(target=_listen, args=(process.stderr, said), daemon=True)
        listener.start()
        images = 0
        try:
            while (pixels := _read_pam(process.stdout)) is not None:
                yield _to_frame(pixels, channels, notes, first=not images)
                images += 1
                bar.update()
            process.stdout.close()
            status = process.wait()
        finally:
            process.kill()  # no effect if it has ended
            listener.join()
    _judge(path, status, said, images, header if count is None else None, notes)


def film_speed(path: Path) -> float:
    """Average number of images per second."""
    header = _read_header(path)
    packets, last = _count_packets(path)
    if abs(header.rate * last - packets) <= 2 + 0.02 * packets:
        return header.rate
    # With variable frame durations the header may state any rate; sound may be longer than the images.
    near = 0.1 * last + 2 * last / max(packets, 1)
    seconds = header.seconds if header.seconds and abs(header.seconds - last) < near else last
    return packets / seconds if seconds else 0.0


def check_written(path: Path, images: int, name: Path) -> None:
    """OSError unless `path`, which a library has just written by ffmpeg, holds so many images.

    Libraries do not say that ffmpeg failed if it did so at the end, as on a full disk. The error calls the film `name`.
    """
    try:
        found = str(_count_packets(path)[0])
    except ValueError:
        found = "none"
    if found != str(images):
        raise OSError(
            f"{name} could not be written by ffmpeg: it would hold {found} of {images} images. Is the disk full?"
        )


def _count_packets(path: Path) -> tuple[int, float]:
    """Number of encoded images of a film, and the time of the last one in seconds; decodes nothing."""
    output = ["-map", "0:V:0", "-c", "copy", "-f", "null", "-"]
    done = subprocess.run([*_ffmpeg(path, []), *output], capture_output=True, check=False)
    said = done.stderr.decode(errors="replace")
    found = re.findall(r"frame= *(\d+).* time=(\S+)", said)
    _check_process(path, done.returncode, said.splitlines())
    if not found:
        raise ValueError(f"the images of {path} cannot be counted ({_why(_complaints(said.splitlines()))})")
    return int(found[-1][0]), _seconds(found[-1][1]) or 0.0


def _ffmpeg(path: Path, options: list[str]) -> list[str]:
    """An ffmpeg command up to its input; it may read only this file, whatever the file's content refers to."""
    from imageio_ffmpeg import get_ffmpeg_exe

    try:
        program = get_ffmpeg_exe()
    except RuntimeError as error:
        raise OutsideError(
            f"ffmpeg is missing, which is needed to read films: pip install imageio-ffmpeg ({error})"
        ) from error
    common = ["-hide_banner", "-nostdin", "-loglevel", "level+info", "-protocol_whitelist", "file,pipe"]
    return [program, *common, *options, "-i", f"file:{path.resolve()}"]


def _read_header(path: Path) -> _Header:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, or not a file")
    with open(path, "rb") as file:  # raises Python's error if the file is not readable
        if not file.read(1):
            raise ValueError(f"{path} is empty (0 bytes)")
    done = subprocess.run(_ffmpeg(path, []), capture_output=True, check=False)
    said = done.stderr.decode(errors="replace")
    lines = said.splitlines()
    if not any("Input #0" in line for line in lines):
        _check_process(path, done.returncode, lines)
        hint = "; a truncated recording lacks it" if "moov atom not found" in said else ""
        raise ValueError(f"{path} is not a film that ffmpeg can read ({_why(_complaints(lines)[:1])}{hint})")
    tracks = [line for line in lines if re.match(r"(\[info\])? *Stream #\d.*?: Video: ", line)]  # not names or titles
    streams = [line for line in tracks if "(attached pic)" not in line]
    if not streams:
        raise ValueError(f"{path} has no video track, only sound or other data")
    stream, notes = streams[0], []
    if len(streams) > 1:
        notes.append(f"films of which only the first of {len(streams)} video tracks is used")
    if turned := re.search(r"rotation of (-?[\d.]+) degrees", said):
        notes += ["films turned upright by their rotation"] if float(turned[1]) else []
    if "smpte2084" in stream or "arib-std-b67" in stream:
        notes.append("HDR films, whose brightness is not mapped to that of standard screens")
    codec = re.search(r": Video: (\w+)", stream)
    decoder = _TRANSPARENT.get(codec[1] if codec else "") if re.search(r"alpha_mode *: *1", said) else None
    length = re.search(r"^(?:\[info\])? *Duration: (\S+),", said, re.MULTILINE)
    rate = re.search(r"([\d.]+)(k?) fps", stream)
    seconds = _seconds(length[1]) if length else None
    speed = float(rate[1]) * (1000 if rate[2] else 1) if rate else 0.0
    images = round(seconds * speed) if seconds and speed else None
    return _Header(["-c:v", decoder] if decoder else [], speed, seconds, images, notes)


def _seconds(clock: str) -> float | None:
    """Seconds of a time such as 00:01:02.50; None for N/A."""
    parts = clock.split(":")
    return None if len(parts) != 3 else sum(float(part) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))


def _listen(stream: IO[bytes], said: list[str]) -> None:
    for line in stream:
        if len(said) == _MOST_LINES:
            del said[_MOST_LINES // 2]
        said.append(line.decode(errors="replace").rstrip())


def _read_pam(stream: IO[bytes]) -> NDArray | None:
    """Read one PAM image from a stream, (H, W, C) uint8 or uint16; None at the end or at a truncated image."""
    if stream.readline() != b"P7\n":
        return None
    fields = {}
    while (line := stream.readline()) not in (b"ENDHDR\n", b""):
        name, _, value = line.partition(b" ")
        fields[name] = value.strip()
    if not line:
        return None
    height, width, depth, white = (int(fields[name]) for name in (b"HEIGHT", b"WIDTH", b"DEPTH", b"MAXVAL"))
    dtype = np.dtype(">u2" if white > 255 else "u1")
    content = stream.read(height * width * depth * dtype.itemsize)
    if len(content) < height * width * depth * dtype.itemsize:
        return None
    pixels = np.frombuffer(content, dtype).reshape(height, width, depth)
    return pixels * np.uint8(255) if white == 1 else pixels


def _to_frame(pixels: NDArray, channels: int, notes: Counter[str], first: bool) -> NDArray[np.uint8]:
    """Convert an image from ffmpeg with 1 to 4 channels to (H, W, C) uint8."""
    from PIL import Image

    found: Counter[str] = Counter()
    if pixels.dtype.itemsize == 2:
        found["films of more than 8 bits per channel, converted to 8"] += 1
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.shape[-1] != channels or channels == 1:
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        pixels = flatten(picture, channels, found, "films")
    if first:
        notes.update(found)
    return pixels


def _complaints(said: list[str]) -> list[str]:
    """Lines of ffmpeg's output about errors and damage, without the names of ffmpeg's components."""
    heavy = re.compile(r"\[(error|fatal|panic)\]|\[warning\].*corrupt")
    found = [line for line in said if heavy.search(line) and not line.startswith("[image2pipe")]  # ignore timestamps
    return [re.sub(r"^(\[[^]]*\] *)+", "", line) for line in found]


def _why(complaints: list[str]) -> str:
    if not complaints:
        return "ffmpeg gives no reason"
    more = f", first of {len(complaints)} errors" if len(complaints) > 1 else ""
    return f"ffmpeg{more}: {complaints[0].rstrip('.')}"


def _check_process(path: Path, status: int, said: list[str]) -> None:
    """Raise OutsideError if ffmpeg itself failed, rather than the film."""
    killed = [line for line in said if "received signal" in line]
    if status < 0 or killed:
        name = signal.Signals(-status).name if status < 0 else "a signal"
        raise OutsideError(
            f"ffmpeg was ended by {name} while it read {path}, which may be intact: run the command again, and check "
            "whether memory was short"
        )
    if any("Unrecognized option" in line or "Unknown decoder" in line for line in said):
        raise OutsideError(f"this ffmpeg is too old ({_why(_complaints(said)[:1])}): use version 5.1 or newer")


def _judge(path: Path, status: int, said: list[str], images: int, header: _Header | None, notes: Counter[str]) -> None:
    """Refuse an incomplete film, warn of a damaged one. `header` is None if only a part was requested."""
    _check_process(path, status, said)
    complaints = _complaints(said)
    if not (status or complaints) and images:
        return
    announced = None if header is None else header.images
    about = "" if announced is None else f" of about {announced}"
    if status or not images or (header is not None and _lacks_images(path, images, header)):
        way_out = f". To use these, write them to a new film: ffmpeg -i {path.name} repaired.mp4" if images else ""
        raise ValueError(
            f"{path} is incomplete or damaged: {images} images{about} could be read ({_why(complaints)}){way_out}"
        )
    notes["damaged films, named in the warnings"] += 1
    warnings.warn(
        f"{path} is damaged: {images} images{about} were read, some may be wrong ({_why(complaints)})", stacklevel=2
    )


def _lacks_images(path: Path, images: int, header: _Header) -> bool:
    """Whether a film with errors has fewer images than its header states; durations may vary."""
    if header.images is None or header.seconds is None or images >= header.images - 1:
        return False
    packets, last = _count_packets(path)
    return images < packets or last < 0.95 * header.seconds - 0.1
