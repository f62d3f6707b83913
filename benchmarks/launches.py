"""What one dream step would launch on a GPU, counted without one: operations that write new numbers, and waits.

    python benchmarks/launches.py --model doom-hg

The step runs on torch's "meta" device, which has shapes and no numbers: whatever asks the device for a number fails.
Counted are torch's operations on the path that a GPU takes, but not those that look at the same numbers in another way.
A few of them launch two kernels.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from worldmodel.dynamics import DreamState
from worldmodel.dynamics.gpt.blocks import attention_parts
from worldmodel.envs.dream.rollout import Dreams
from worldmodel.envs.dream.rules import DreamRules
from worldmodel.layers.attention import KVCache
from worldmodel.model import WorldModel

META = torch.device("meta")


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _memory(tensors: list[torch.Tensor]) -> set[int]:
    return {tensor.untyped_storage()._cdata for tensor in tensors}


class Launches(TorchDispatchMode):
    """Counts the operations on "meta" that write numbers, and those that carry numbers between it and the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self.carried: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given, made = _tensors((args, kwargs)), _tensors(out)
        if META not in {tensor.device for tensor in given + made}:
            return out
        copies = any(name in str(func) for name in ("copy", "aten.to."))
        # A number of the host, without dimensions, travels with the launch, but not in a copy.
        if len({tensor.device for tensor in [*made, *(t for t in given if t.ndim or copies)]}) > 1:
            self.carried.append(str(func))
        fresh = any(not _memory([tensor]) & _memory(given) for tensor in made)
        if (fresh or func._schema.is_mutable) and "empty" not in str(func):
            self.count[str(func)] += 1
        return out


class Builds(TorchFunctionMode):
    """Sees tensors for "meta" that are built of numbers of the host, which happens before operations are seen."""

    def __init__(self) -> None:
        super().__init__()
        self.carried: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        builds = name in ("tensor", "as_tensor", "new_tensor", "asarray") and out is not (args or (None,))[0]
        picks = name == "__getitem__" and any(isinstance(part, list) for part in [args[1], *_parts(args[1])])
        if (builds or picks) and out.device == META:
            self.carried.append(name)
        return out


def _parts(index: Any) -> tuple:
    return index if isinstance(index, tuple) else ()


def on_meta(model: WorldModel, obs: str, rows: int, full: bool = True) -> Dreams:
    """Dreams of a model on the "meta" device (where it is moved to) that have run for long, or have just begun."""
    model = model.to(META)
    config, tokenizer = model.config.dynamics, model.tokenizer
    (h, w), heads = tokenizer.grid, config.heads
    shape = (rows, heads, config.window, h * w, config.width // heads)
    parts = range(config.layers * attention_parts(config))
    dtype = model.dynamics.matmul_dtype
    keys, values = ([torch.zeros(shape, dtype=dtype, device=META) for _ in parts] for _ in "kv")
    numbers = lambda *sizes: torch.zeros(rows, *sizes, dtype=torch.int64, device=META)  # noqa: E731
    held = config.window if full else 1
    dreams = Dreams(model, obs, DreamRules(horizon=32))
    dreams.state = DreamState(
        cache=KVCache(keys, values, numbers(), clock=3 * config.window, shortest=held),
        codes=numbers(h, w, tokenizer.num_slices),
        outputs=torch.zeros(rows, h * w, config.width, device=META),
        signals=torch.zeros(rows, len(model.config.signal_names), device=META),
        seeds=numbers(),
        counter=numbers(),
        clock=3 * config.window,
        extras={"env.return": torch.zeros(rows, device=META)},
        world=model,
    )
    return dreams


def launches_of(dreams: Dreams) -> Launches:
    """Of one step, after one that makes what is made once."""
    asks, torch.is_autocast_enabled = torch.is_autocast_enabled, lambda *_: False  # "meta" knows no autocast
    try:
        actions = torch.zeros((len(dreams.running), *dreams.model.config.action.shape), dtype=torch.int64, device=META)
        dreams.step(actions)
        with Launches() as launches, Builds() as builds:
            dreams.step(actions)
        launches.carried += builds.carried
    finally:
        torch.is_autocast_enabled = asks
    return launches


@dataclass(frozen=True, kw_only=True)
class Args:
    model: str = "doom-hg"
    rows: int = 4096


def main(args: Args) -> None:
    print("| obs | rows | operations | carried between host and device |\n|---|---|---|---|")
    for obs in ("latent", "codes", "features", "rgb"):
        model = WorldModel.from_pretrained(args.model, dtype=torch.bfloat16)
        launches = launches_of(on_meta(model, obs, args.rows))
        print(f"| {obs} | {args.rows} | {launches.count.total()} | {len(launches.carried)} |")
        if obs == "latent":
            most = launches.count.most_common(8)
    print("most often, in latents: " + ", ".join(f"{name.split('.')[1]} {number}" for name, number in most))


if __name__ == "__main__":
    main(tyro.cli(Args))
