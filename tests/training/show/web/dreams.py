"""Dreams of a world in Python, to compare exported ones with: the same seeds and actions in float32."""

from typing import NamedTuple

import numpy as np
import onnxruntime
import torch

from worldmodel.dynamics.sampling import uniforms
from worldmodel.envs import DreamEnv
from worldmodel.envs.dream.start_states import BothStarts, Context, make_source
from worldmodel.envs.vectors import key_of
from worldmodel.layers.position import rotation
from worldmodel.model import WorldModel


class Dreamt(NamedTuple):
    """Steps of a dream until its end."""

    codes: list[list[int]]  # flat
    rewards: list[float]
    nll: list[float]
    signals: list[list[float]]
    ended: list[bool]
    frames: np.ndarray  # (F, H, W, 3) uint8 of the last step


def plan(world: WorldModel, steps: int) -> list:
    """Actions that differ from step to step, as JSON has them."""
    space = world.config.action.held.to_gym()
    space.seed(7)
    return [np.asarray(space.sample()).tolist() for _ in range(steps)]


@torch.inference_mode()
def by_env(world: WorldModel, seed: int, actions: list, temperature: float = 1.0) -> Dreamt:
    """The dream of a DreamEnv."""
    env, dtype = DreamEnv(world, "codes", temperature), world.config.action.dtype
    env.reset(seed=seed)
    codes, rewards, nll, signals, ended = [], [], [], [], []
    for action in actions:
        seen, reward, terminated, _, info = env.step(np.asarray(action, dtype)[()])
        codes.append(seen.ravel().tolist())
        rewards.append(reward)
        nll.append(info["nll"])
        signals.append([info[name] for name in world.config.signal_names])
        ended.append(terminated)
        if terminated:
            break
    frames = world.tokenizer.decode(env.state.codes[:, None])[0, 0].numpy()
    return Dreamt(codes, rewards, nll, signals, ended, frames)


class OnnxDream:
    """Runs exported graphs as the page does, with onnxruntime."""

    def __init__(self, world: WorldModel, graphs: dict[str, bytes]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._world = world
        self._sessions = {name: onnxruntime.InferenceSession(graph, options) for name, graph in graphs.items()}
        self._past: list[tuple[np.ndarray, np.ndarray]] = []
        self._clock = 0

    def dream(self, seed: int, actions: list, temperature: float = 1.0) -> Dreamt:
        world, tokens = self._world, self._world.dynamics.tokens_per_step
        context = first_context(world, seed)
        given = context.codes[0].reshape(context.codes.shape[1], tokens, -1).int().numpy()
        self._past, self._clock = [], 0
        nothing = np.zeros(world.config.action.num_features, np.float32)
        if world.config.dynamics.lead:
            self._pass(given[0], nothing, 1.0)
        for step, action in enumerate(context.actions[0]):
            self._pass(given[step], world.dynamics.action.spec.hold(vector(world, action)), 0.0)
        codes, signals = given[-1], context.signals[0].numpy()
        dreamt = Dreamt([], [], [], [], [], np.zeros(0))
        for counter, action in enumerate(actions):
            done = world.config.action.hold(vector(world, action))
            outputs = self._pass(codes, done, 0.0)
            noise = uniform_noise(context.seeds, counter, codes.size + 1)
            out = self._run(
                "draw",
                outputs=outputs,
                before=codes,
                first=np.float32(0),
                noise=noise[:-1].reshape(codes.shape),
                temperature=np.float32(temperature),
                signals=signals,
                action=done.numpy(),
                chance=noise[-1],
            )
            codes, nll, _, reward, _, ended, signals = out
            for kept, value in zip(dreamt, (codes.ravel(), reward, nll, signals, ended), strict=False):
                kept.append(value.tolist())
            if ended:
                break
        return dreamt._replace(
            ended=[bool(ended) for ended in dreamt.ended], frames=self._run("picture", codes=codes)[0]
        )

    def _pass(self, codes: np.ndarray, action: torch.Tensor | np.ndarray, first: float) -> np.ndarray:
        layers, (heads, window, tokens, features) = self._world.dynamics.cache_shape
        keys = np.zeros((layers, heads, window - 1, tokens, features), np.float32)
        values, hidden = keys.copy(), np.full(window - 1, -np.inf, np.float32)
        for slot, (k, v) in enumerate(self._past):
            keys[:, :, slot], values[:, :, slot], hidden[slot] = k, v, 0
        turn = rotation(torch.tensor([self._clock]), features)
        outputs, new_keys, new_values = self._run(
            "pass",
            codes=codes,
            action=np.asarray(action),
            first=np.float32(first),
            keys=keys,
            values=values,
            hidden=hidden,
            turn=np.concatenate((turn.cos.numpy(), turn.sin.numpy())),
        )
        self._past = [*self._past, (new_keys, new_values)][-(window - 1) :]
        self._clock += 1
        return outputs

    def _run(self, name: str, **inputs) -> list[np.ndarray]:
        session = self._sessions[name]
        return session.run(None, {i.name: np.asarray(inputs[i.name]) for i in session.get_inputs()})


def first_context(world: WorldModel, seed: int) -> Context:
    """Where the first dream of an env with this seed begins, and the seed of what it draws."""
    key, source = key_of(seed), make_source(world, "starts")
    if isinstance(source, BothStarts):
        source = source.first if key & 1 else source.middle
    return source.draw(torch.tensor([key]), torch.tensor([0]))


def uniform_noise(seeds: torch.Tensor, counter: int, count: int) -> np.ndarray:
    return uniforms(seeds, torch.tensor([counter]), count)[0].numpy()


def vector(world: WorldModel, action) -> torch.Tensor:
    """An action as the graphs read it: one-hot, or its dimensions."""
    spec = world.config.action
    if spec.kind == "discrete":
        return torch.nn.functional.one_hot(torch.as_tensor(action), spec.num_features).float()
    return torch.as_tensor(action, dtype=torch.float32)
