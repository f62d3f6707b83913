"""Mutated checkpoints and dream states: each loads as the whole one does, or is refused in a line that names the file.

Seeded, in one child process with a limit of memory, and with a limit of time for each.
"""

import copy
import json
import multiprocessing
import resource
import shutil
import signal
from collections import Counter
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.tiny import tiny_world

pytestmark = pytest.mark.slow
SECONDS, BYTES = 20, 6 * 2**30
VALUES = [
    None,
    True,
    -1,
    0,
    1,
    2,
    3,
    7,
    2**31,
    20_000_000,
    2**64,
    10**400,
    -1.5,
    0.5,
    1e300,
    "",
    "4",
    "x:y",
    [],
    [1],
    {},
]
VALUES += [{"a": 1}, [[[]]], float("nan"), float("inf")]
CASTS = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.complex64, torch.bool, torch.uint8]


def mutate_bytes(path, rng):
    data = bytearray(path.read_bytes())
    kind = rng.integers(5)
    if kind == 0:
        data = data[: rng.integers(len(data))]
    elif kind == 1:
        data += bytes(rng.integers(256, size=9).tolist())
    else:  # in the header, or anywhere
        end = min(len(data), 3000) if kind == 2 else len(data)
        for place in rng.integers(end, size=rng.integers(1, 4)).tolist():
            data[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


def mutate_tensors(path, rng):
    with safe_open(path, "pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    one, other = rng.choice(sorted(tensors), 2, replace=False).tolist()
    tensor = tensors[one]
    kind = rng.integers(8)
    if kind == 0:
        tensors[one], tensors[other] = tensors[other], tensor
    elif kind == 1:
        tensors[f"{one}x"] = tensors.pop(one)
    elif kind == 2:
        del tensors[one]
    elif kind == 3:
        tensors[one] = tensor.to(CASTS[rng.integers(len(CASTS))])
    elif kind == 4 and tensor.is_floating_point():
        bad = [torch.nan, torch.inf, -torch.inf, 1e30][rng.integers(4)]
        tensors[one] = torch.where(torch.rand(tensor.shape) < 0.5, bad, tensor).to(tensor.dtype)
    elif kind == 5:
        tensors[one] = torch.cat((tensor, tensor)) if tensor.ndim else tensor[None]
    elif kind == 6:
        tensors[one] = tensor.flatten()[: tensor.numel() // 2].clone()
    else:
        tensors[one] = tensor + 1 if tensor.dtype != torch.bool else ~tensor
    save_file(tensors, path, about)


def mutate_field(path, rng):
    data = json.loads(path.read_text())
    places, waiting = [], [data]
    while waiting:
        here = waiting.pop()
        for key, value in here.items() if isinstance(here, dict) else enumerate(here):
            places.append((here, key))
            if isinstance(value, dict | list):
                waiting.append(value)
    here, key = places[rng.integers(len(places))]
    if rng.integers(6) == 0 and isinstance(here, dict):
        here[f"{key}s"] = here.pop(key)
    elif rng.integers(6) == 0:
        del here[key]
    else:
        here[key] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
    path.write_text(json.dumps(data))


def mutate_json(path, rng):
    text = path.read_text()
    cut = int(rng.integers(len(text)))
    deep = int(rng.integers(10, 200_000))
    texts = [
        text[:cut],
        text[:cut] + text[cut + 3 :],
        "[" * deep,
        f"[{text}]",
        "",
        text.replace("{", '{"kind": 1, ', 1),
    ]
    texts += [
        text[:cut] + "\x00" + text[cut:],
        text + text,
        "null",
        '"world"',
        '{"a": ' * deep,
        text.replace(": 1,", ": 1e999,"),
    ]
    path.write_text(texts[rng.integers(len(texts))])


def mutate_checkpoint(folder, rng):
    names = sorted(path.name for path in folder.iterdir() if path.name != "README.md")
    weights = [name for name in names if name.endswith(".safetensors")]
    kind = rng.integers(5)
    name = names[rng.integers(len(names))] if kind == 0 else weights[rng.integers(len(weights))]
    if kind == 0:
        mutate_bytes(folder / name, rng)
    elif kind in (1, 2):
        mutate_tensors(folder / name, rng)
    elif kind == 3:
        mutate_field(folder / "config.json", rng)
    else:
        mutate_json(folder / "config.json", rng)


# --- what a load gives, to the last bit -------------------------------------------------------------------------------


def dream_of(world):
    starts = world.starts
    state = world.start_codes(starts.codes[:2], starts.actions[:2], starts.signals[:2, -1])
    found = []
    for _ in range(2):
        state, out = world.step(state, torch.ones(2, dtype=torch.int64))
        found += [out.codes, out.reward, out.termination_probability, out.signals, out.nll]
    return [tensor.numpy().tobytes() for tensor in (*found, out.frames())] + [repr(world.config)]


def by_name(folder):
    from worldmodel import WorldModel

    return dream_of(WorldModel.from_pretrained(folder, dtype=torch.float32))


def by_gym(folder):
    with gym.make("VideoGenDream-Doom", model=str(folder), device="cpu", obs="codes") as env:
        seen = [env.reset(seed=3)[0], *env.step(1)[:4]]
        return [np.asarray(part).tobytes() for part in seen] + dream_of(env.unwrapped.model.prepare(torch.float32))


def by_agent(folder):
    from worldmodel.agents.sb3_agent import load_agent

    agent = load_agent(folder)
    seen = np.random.default_rng(0).normal(size=(3, *agent.file.observation_shape)).astype(np.float32)
    weights = [tensor.numpy().tobytes() for tensor in agent.policy.state_dict().values()]
    return [agent.act(seen).tobytes(), repr(agent.file), *weights]


def by_state(path):
    from worldmodel.dynamics import DreamState

    world = tiny_world()
    state, found = DreamState.load(path), []
    for _ in range(2):
        state, out = world.step(state, torch.ones(2, dtype=torch.int64))
        found += [out.codes, out.reward, out.signals, out.nll]
    return [tensor.numpy().tobytes() for tensor in found]


def mutate_state(path, rng):
    mutate_bytes(path, rng) if rng.integers(2) else mutate_tensors(path, rng)


def outcome(load, path, whole) -> str:
    """In a word or two; whatever does not begin with "equal" or "refused" is wrong."""
    signal.alarm(SECONDS)
    try:
        found = load(path)
    except (ValueError, TypeError, FileNotFoundError) as error:
        text = str(error)
        named = path.name in text or any(file.name in text for file in path.rglob("*"))
        if "\n" in text or not named:
            return f"unhelpful {type(error).__name__}: {text[:300]}"
        return "refused"
    except BaseException as error:
        return f"wrong {type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.alarm(0)
    return "equal" if found == whole else "silently another value"


def trial(source, load, mutate, count, seed, scratch, send, sums=True):
    """Runs in the child: how often each came out."""

    def too_long(*_):
        raise TimeoutError("takes too long")

    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, too_long)
    whole = load(source)
    resource.setrlimit(resource.RLIMIT_AS, (BYTES + resident(), resource.RLIM_INFINITY))
    found = Counter()
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        target = scratch / source.name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        if not sums:
            (target / "SHA256SUMS").unlink()
        mutate(target, rng)
        word = outcome(load, target, whole)
        found[word if word in ("equal", "refused") else f"{number}: {word}"] += 1
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    send.send(found)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def run_trial(*args, **options) -> Counter:
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=trial, args=(*args, send), kwargs=options)
    child.start()
    send.close()
    try:
        assert receive.poll(1800), "the trial hangs"
        found = receive.recv()
    finally:
        child.kill()
        child.join()
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny_world().save_pretrained(tmp_path_factory.mktemp("mutations") / "world")


@pytest.fixture
def agent(world, tmp_path):
    from worldmodel.agents.sb3_config import AgentConfig
    from worldmodel.training.train_agent import DreamTraining, train_agent

    config = DreamTraining(agent=AgentConfig(steps=16, num_envs=4, n_steps=4, batch_size=8), horizon=4)
    return train_agent(world, tmp_path / "run", config, device="cpu")


def check(found: Counter, count: int) -> None:
    wrong = [word for word in found if word not in ("equal", "refused")]
    assert not wrong, "\n".join(wrong)
    assert found["refused"] > count / 2 and found.total() == count


def test_no_mutated_world_ends_wrongly(world, tmp_path):
    check(run_trial(world, by_name, mutate_checkpoint, 240, 1, tmp_path), 240)


def test_no_mutated_world_ends_wrongly_in_gym_make(world, tmp_path):
    check(run_trial(world, by_gym, mutate_checkpoint, 80, 2, tmp_path), 80)


def test_no_mutated_agent_ends_wrongly(agent, tmp_path):
    check(run_trial(agent, by_agent, mutate_checkpoint, 80, 3, tmp_path), 80)


def test_no_mutated_dream_state_ends_wrongly(world, tmp_path):
    tiny = tiny_world()
    starts = tiny.starts
    state = tiny.start_codes(starts.codes[:2], starts.actions[:2], starts.signals[:2, -1])
    (tmp_path / "whole").mkdir()
    state.save(tmp_path / "whole" / "dream.safetensors")
    check(run_trial(tmp_path / "whole" / "dream.safetensors", by_state, mutate_state, 120, 4, tmp_path), 120)


@pytest.mark.parametrize(("fixture", "load", "seed"), [("world", by_name, 5), ("agent", by_agent, 6)])
def test_older_checkpoints_without_sums_raise_nothing_but_one_line(request, fixture, load, seed, tmp_path):
    """Their values cannot be vouched for; everything else is."""
    found = run_trial(request.getfixturevalue(fixture), load, mutate_checkpoint_itself, 160, seed, tmp_path, sums=False)
    wrong = [word for word in found if word not in ("equal", "refused") and "silently" not in word]
    assert not wrong, "\n".join(wrong)


def mutate_checkpoint_itself(folder, rng):
    mutate_checkpoint(folder, rng)
