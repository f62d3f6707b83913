"""Reading whole films: the library's pipe from ffmpeg, PyAV and torchcodec, in one process.

Usage: ``python benchmarks/films.py [FRAMES]`` where av and torchcodec are installed too (torchcodec also needs FFmpeg's
shared libraries). Prints the fewest CPU seconds of five readings, children included, and how near the frames are to
those that were filmed; then what each makes of odd films: frames, distance from the library's, errors, warnings.
"""

import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
import torchcodec
from imageio_ffmpeg import get_ffmpeg_exe
from torchcodec.decoders import VideoDecoder

from worldmodel.media.read import read_images

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 300
YUV = ("-c:v", "libx264", "-pix_fmt", "yuv420p")


def ours(path: Path) -> np.ndarray:
    return read_images(path, 3).frames


def by_pyav(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def by_torchcodec(path: Path) -> np.ndarray:
    decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1)
    return decoder.get_frames_in_range(0, len(decoder)).data.numpy()


READERS: dict[str, Callable[[Path], np.ndarray]] = {"ffmpeg": ours, "PyAV": by_pyav, "torchcodec": by_torchcodec}


def ffmpeg(*options: object) -> None:
    subprocess.run([get_ffmpeg_exe(), "-y", "-loglevel", "error", *map(str, options)], check=True)


def film(path: Path, size: str, *options: object) -> Path:
    """A film of a moving picture, which ffmpeg computes in all its colours."""
    ffmpeg("-f", "lavfi", "-i", f"mandelbrot=size={size}:rate=30:maxiter=200", "-frames:v", COUNT, *options, path)
    return path


def odd_films(folder: Path) -> dict[str, Path]:
    plain = film(folder / "plain.mp4", "320x240", *YUV)
    films = {"rotated by 90°": folder / "rotated.mp4", "damaged": folder / "damaged.mp4", "cut off": folder / "cut.mp4"}
    ffmpeg("-display_rotation", 90, "-i", plain, "-c", "copy", films["rotated by 90°"])
    slow = "setpts='PTS+gt(mod(N,7),3)*2/TB/30'"
    films["variable frame rate"] = film(folder / "vfr.mp4", "320x240", *YUV, "-vf", slow, "-fps_mode", "vfr")
    films["10 bits"] = film(folder / "ten.mp4", "320x240", "-c:v", "libx264", "-pix_fmt", "yuv420p10le")
    content = bytearray(plain.read_bytes())
    for place in np.random.default_rng(0).integers(len(content) // 4, len(content) // 2, 40):
        content[place] ^= 0xFF
    films["damaged"].write_bytes(content)
    ffmpeg("-i", plain, "-c", "copy", "-movflags", "+faststart", films["cut off"])
    films["cut off"].write_bytes(films["cut off"].read_bytes()[: plain.stat().st_size * 6 // 10])
    return films


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def speed(read: Callable[[Path], np.ndarray], path: Path) -> float:
    found = []
    for _ in range(5):
        began = cpu_seconds()
        read(path)
        found.append(cpu_seconds() - began)
    return min(found)


def psnr(frames: np.ndarray, wanted: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((frames.astype(np.float32) - wanted) ** 2)))


def outcome(read: Callable[[Path], np.ndarray], path: Path, wanted: np.ndarray | None) -> str:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            frames = read(path)
        except Exception as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
    alike = wanted is not None and frames.shape == wanted.shape
    away = f", {np.abs(frames.astype(int) - wanted).mean():.2f} from the library's" if alike else ""
    return f"{frames.shape}{away}{', with a warning' if warned else ', without a warning'}"


def main() -> None:
    torch.set_num_threads(1)
    print(f"PyAV {av.__version__}, torchcodec {torchcodec.__version__}, {COUNT} frames of H.264")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in ("64x64", "640x480"):
            true = ours(film(folder / "true.mkv", size, "-c:v", "libx264rgb", "-crf", 0))
            path = film(folder / "film.mp4", size, *YUV)
            for reader, read in READERS.items():
                seconds, near = speed(read, path), psnr(read(path), true)
                print(f"{size:20} {reader:10} {seconds:.3f} s CPU, {COUNT / seconds:6,.0f} frames/s, {near:.1f} dB")
        for kind, path in odd_films(folder).items():
            wanted = None if kind == "cut off" else ours(path)
            for reader, read in READERS.items():
                print(f"{kind:20} {reader:10} {outcome(read, path, wanted)}")


if __name__ == "__main__":
    main()
