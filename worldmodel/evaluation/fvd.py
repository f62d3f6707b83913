"""Frechet video distance with an I3D network from a file of the user.

Letters: N clips, H W C pixels, E logits.
Source: FVD, arXiv:1812.01717; the protocol, and FVD* and R-FVD, as in VideoGen (arXiv:2104.10157) section 4.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.errors import first_line
from worldmodel.evaluation.frechet import MIN_ROWS, frechet_distance, two_fold_distance
from worldmodel.progress import progress

CLIP_FRAMES = 16
CHANNELS = (1, 3)  # of clips
SIDE = 224  # pixels, I3D's input size
PROTOCOL = (
    f"{CLIP_FRAMES} frames, resized to {SIDE} x {SIDE} (bilinear, corners not aligned), pixels in [-1, 1], logits of "
    "the given I3D, unbiased covariances; FVD: samples against real clips, R-FVD: reconstructions against real clips, "
    "FVD*: samples against reconstructions"
)


def load_i3d(path: str | Path, device: torch.device | str = "cpu") -> torch.jit.ScriptModule:
    """Load an I3D from a TorchScript file. TorchScript is a program: load only a file that you trust.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not TorchScript.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no I3D file {path}; give a TorchScript file, or omit it to skip FVD")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # published I3D networks are TorchScript nevertheless
            return torch.jit.load(path, map_location=device).eval()
    except RuntimeError as error:
        raise ValueError(
            f"{path} is not a TorchScript file ({first_line(error)}); an I3D saved by torch.jit.save is needed"
        ) from error


@torch.inference_mode()
def i3d_logits(
    i3d: torch.jit.ScriptModule, clips: Tensor, device: torch.device | str = "cpu", chunk: int = 8
) -> Tensor:
    """Logits (N, E) float32 on the CPU for clips (N, 16, H, W, 3) uint8, or gray (N, 16, H, W, 1).

    `chunk` clips are processed at a time. The network gets (n, 3, 16, 224, 224) float32 in [-1, 1] and must return
    (n, E), or (n, E, t), which is averaged over t. Its arguments that would scale or resize again, or return features
    instead of logits, are set to False.
    """
    fits = clips.ndim == 5 and clips.shape[1] == CLIP_FRAMES and clips.shape[-1] in CHANNELS
    if not fits or clips.dtype != torch.uint8:
        raise ValueError(
            f"clips must be (N, {CLIP_FRAMES}, H, W, 3 or 1) uint8, got {tuple(clips.shape)} {str(clips.dtype)[6:]}"
        )
    schema: Any = getattr(i3d.forward, "schema")  # noqa: B009 (a TorchScript attribute that its type does not declare)
    taken = {argument.name for argument in schema.arguments}
    off = {name: False for name in ("rescale", "resize", "return_features") if name in taken}
    parts = []
    with progress(len(clips), "clip", "i3d") as bar:
        for part in clips.split(chunk):
            logits = i3d(_as_input(part.to(device)), **off).float().cpu()
            if logits.ndim == 3:
                logits = logits.mean(-1)
            if logits.ndim != 2 or len(logits) != len(part):
                raise ValueError(
                    f"the I3D must give logits (n, E) for n clips, got {tuple(logits.shape)} for {len(part)}"
                )
            parts.append(logits)
            bar.update(len(part))
    return torch.cat(parts)


def _as_input(clips: Tensor) -> Tensor:
    """(n, T, H, W, 3 or 1) uint8 -> (n, 3, T, 224, 224) float32 in [-1, 1]."""
    n, frames = clips.shape[:2]
    clips = clips.expand(-1, -1, -1, -1, 3)
    images = clips.flatten(0, 1).movedim(-1, 1).float() / 127.5 - 1.0
    images = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return images.view(n, frames, 3, SIDE, SIDE).transpose(1, 2).contiguous()


def fvd_scores(
    i3d: torch.jit.ScriptModule,
    real: Tensor,
    reconstruction: Tensor,
    samples: Tensor,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """FVD, R-FVD and FVD* of three sets of clips (N, 16, H, W, 3) uint8; lower is better.

    FVD* alone favours a tokenizer that keeps little, so it is always reported with the other two. "fvd_two_fold" is FVD
    by 2-fold cross-validation, for which sample i continues real clip i; None for fewer than four clips.
    """
    a, b, c = (i3d_logits(i3d, clips, device) for clips in (real, reconstruction, samples))
    return {
        "protocol": PROTOCOL,
        "clips": [len(real), len(samples)],
        "fvd": frechet_distance(c, a),
        "r_fvd": frechet_distance(b, a),
        "fvd_star": frechet_distance(c, b),
        "fvd_two_fold": two_fold_distance(c, a) if len(a) == len(c) >= MIN_ROWS else None,
    }
