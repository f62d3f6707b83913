"""All frames of a store as codes, kept in a file: of every step, or of clips where the tokenizer codes clips.

Letters: N steps of an episode, K its clips, T steps of a clip, h w latent grid, M slices.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from worldmodel.data import EpisodeStorage
from worldmodel.files import atomic_write
from worldmodel.layers.defaults import own_defaults
from worldmodel.layers.precision import cast_matmuls, fast_dtype
from worldmodel.progress import progress
from worldmodel.tokenizer import Tokenizer
from worldmodel.tokenizer.files import load_tokenizer
from worldmodel.training import distributed
from worldmodel.training.run_folder import own_folder

_AT_ONCE = 64  # steps encoded in one batch
CLIP_STRIDE = 4  # steps from the beginning of a clip to that of the next


def clip_starts(num_steps: int, clip_steps: int, stride: int = CLIP_STRIDE) -> np.ndarray:
    """First steps of an episode's clips, (K,) int64: one every `stride` steps and the last that fits; maybe none.

    An episode of `num_steps` actions has one step more.
    """
    last = num_steps + 1 - clip_steps
    return np.unique([*range(0, last + 1, stride), last]).astype(np.int64) if last >= 0 else np.empty(0, np.int64)


def codes_name(store: EpisodeStorage, tokenizer: Tokenizer, stride: int = CLIP_STRIDE) -> str:
    """Short name of the codes that this tokenizer makes of this data."""
    digest = hashlib.sha256(store.fingerprint().encode())
    for tensor in tokenizer.state_dict().values():
        digest.update(tensor.float().cpu().numpy().tobytes())
    if tokenizer.config.temporal != "step":
        digest.update(repr((tokenizer.config.temporal, tokenizer.config.clip_steps, stride)).encode())
    return digest.hexdigest()[:16]


@own_defaults
@torch.inference_mode()
def encode_store(store: EpisodeStorage, tokenizer: Tokenizer, cache: Path, stride: int = CLIP_STRIDE) -> list[Tensor]:
    """Codes of every episode, read from `cache` if that was made by this tokenizer and data.

    Returns: (N+1, h, w, M) int16 of single steps, or (K, T, h, w, M) int16 of the clips that begin at `clip_starts`.
    A causal tokenizer sees nothing before a clip, so that its codes are those of a video that begins there.
    """
    sizes = [len(_starts(length, tokenizer, stride)) for length in store.lengths]
    name = codes_name(store, tokenizer, stride)
    if cache.exists():
        tensors = load_file(cache)
        if name in tensors:
            return list(tensors[name].split(sizes))
    device, single = tokenizer.device, tokenizer.config.temporal == "step"
    codes: Tensor | None = None  # one block: many small ones, kept between large ones that come and go, split the heap
    done = 0
    with progress(sum(sizes), "step" if single else "clip", "encoding") as bar:
        for frames in _pieces(store, tokenizer, stride):
            found = tokenizer.encode_given(torch.from_numpy(frames).to(device))
            found = found.squeeze(1) if single else found
            if codes is None:
                codes = torch.empty((sum(sizes), *found.shape[1:]), dtype=torch.int16)
            codes[done : done + len(found)] = found
            done += len(found)
            bar.update(len(found))
    if codes is None:
        raise ValueError(
            f"no episode of {store.root} is as long as a clip of {tokenizer.config.clip_steps} steps, the longest has "
            f"{max(store.lengths) + 1}; train a tokenizer of shorter clips or collect longer episodes"
        )
    with atomic_write(cache) as temporary:
        save_file({name: codes}, temporary)
    return list(codes.split(sizes))


def encode_once(store: EpisodeStorage, tokenizer: Tokenizer, out: Path, stride: int) -> list[Tensor]:
    """Codes of every episode, kept in a run's folder; one of several processes encodes, then all read what it wrote."""
    cache = out / "codes.safetensors"
    if distributed.size() > 1:
        distributed.first(lambda: len(encode_store(store, tokenizer, cache, stride)))
    return encode_store(store, tokenizer, cache, stride)


def code_counts(store: EpisodeStorage, tokenizer: str, out: Path, stride: int, place: torch.device) -> Tensor:
    """How often the train split uses each code, (V,); encodes the store into a run's folder for that."""
    coder = load_tokenizer(tokenizer).to(place).requires_grad_(False)
    cast_matmuls(coder, fast_dtype(place))
    with own_folder(out, "train-dynamics"):
        codes = encode_once(store, coder, out, stride)
    train = torch.cat([codes[episode].flatten() for episode in store.split("train").tolist()])
    return train.long().bincount(minlength=coder.num_codes)


def _starts(num_steps: int, tokenizer: Tokenizer, stride: int) -> np.ndarray:
    """First steps of the parts of an episode that are coded together."""
    single = tokenizer.config.temporal == "step"
    return clip_starts(num_steps, tokenizer.config.piece_steps, 1 if single else stride)


def _pieces(store: EpisodeStorage, tokenizer: Tokenizer, stride: int) -> Iterator[np.ndarray]:
    """What is coded together, (up to _AT_ONCE steps in all, T, F, H, W, C) uint8, episode after episode."""
    steps = tokenizer.config.piece_steps
    rows = max(1, _AT_ONCE // steps)
    for episode, length in enumerate(store.lengths):
        frames, starts = store.frames(episode), _starts(length, tokenizer, stride)
        for first in range(0, len(starts), rows):
            yield np.stack([frames[start : start + steps] for start in starts[first : first + rows].tolist()])
