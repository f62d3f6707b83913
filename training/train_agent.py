"""Train an agent in a dream: PPO on a vector of dreams, saved so that it can play the real game."""

import os
from collections.abc import Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from worldmodel import checkpoint
from worldmodel.agents.sb3.agent import save_agent
from worldmodel.agents.sb3.config import AgentConfig, AgentMeta, world_and_weights
from worldmodel.agents.sb3.eval_callback import RealEvalCallback, real_games
from worldmodel.agents.sb3.train import is_trained, train_ppo
from worldmodel.envs.dream.mixed import MixedDreams, check_alike, divided
from worldmodel.envs.dream.rules import survival
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.envs.ids import confirmed_id
from worldmodel.envs.registry import load_model
from worldmodel.files import write_json
from worldmodel.layers.defaults import own_defaults
from worldmodel.model import WorldModel
from worldmodel.settings import NonNegativeInt, PositiveInt, Temperature, check_used, checked_dataclass
from worldmodel.training.agent_tries import best_try


@checked_dataclass
class DreamTraining:
    """Everything that decides an agent trained in a dream, besides the dream itself."""

    agent: AgentConfig = field(default_factory=AgentConfig)
    # What the agent sees: frames, code vectors, or code vectors and features of their past.
    obs: Literal["rgb", "latent", "features"] = "features"
    # Steps of a dream, which is then truncated, so that the agent still values what would follow; None: a dream
    # continues until the model ends it.
    horizon: int | None = 64
    # Where dreams begin. first: as episodes do; middle: in the middle of episodes; all: in turn.
    starts: Literal["all", "first", "middle"] = "all"
    temperature: Temperature = 1.0  # temperature of sampling; below 1 a dream is sharper, and easier to exploit
    reward: Literal["world", "survival"] = "world"  # the dream's; or 1 per step and 0 where the episode ends
    # Agents that are trained briefly, each with its own seed; the one with the highest return in the dream continues.
    tries: PositiveInt = 1
    try_steps: NonNegativeInt = 0  # env steps of each try, the first of agent.steps; 0: a third of these
    eval_every: NonNegativeInt = 0  # env steps between evaluations in the real game; 0: none
    eval_episodes: PositiveInt = 10  # episodes of each evaluation; the agent of the highest mean is kept in OUT/best
    # Game i of an evaluation, of which there are at most 10, begins with eval_seed + i; not for final tests.
    eval_seed: NonNegativeInt = 50_000

    def __post_init__(self) -> None:
        if not self.eval_every:
            check_used(self, "eval_every above 0", "eval_episodes", "eval_seed")
        if self.tries == 1:
            check_used(self, "tries above 1", "try_steps")
        elif not 1 <= self.first_steps < self.agent.steps:
            raise ValueError(
                f"try_steps must be below agent.steps, so that one of the {self.tries} tries can continue, got "
                f"{self.first_steps} of {self.agent.steps}"
            )

    @property
    def first_steps(self) -> int:
        """Env steps of each try; 0 if there is only one agent."""
        return 0 if self.tries == 1 else self.try_steps or self.agent.steps // 3


class World(NamedTuple):
    """A world in which an agent is trained."""

    name: str  # shipped name, hub id, or the folder's absolute path
    folder: Path
    model: WorldModel


@own_defaults
def train_agent(
    world: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | Path = "runs/agent",
    config: DreamTraining | None = None,
    *,
    start_from: str | Path | None = None,
    device: str = "auto",
    allow_env: str | None = None,
) -> Path:
    """Train an agent with PPO in the dream of a world model, or of several at once; it is saved in OUT/agent.

    A finished agent of the same settings in OUT is kept; an interrupted training is resumed and gives the same agent.

    With --tries N, N agents are trained for --try-steps each, and the one with the highest return in the dream is
    trained for the rest, so that a training that is stuck does not count. No real step is used; OUT/tries keeps them.

    With --eval-every the agent is evaluated in the real game from time to time, by its native reward; this does not
    change the training. OUT/best is the agent of the highest mean, OUT/selection.json lists all evaluations. The
    highest of several means is biased upward: evaluate OUT/best on other seeds.

    Args:
        world: a shipped name, a folder or a hub id. Several worlds share the rows; they must have one tokenizer, the
            same actions and, for --obs features, dynamics of one width. Through the first one the agent sees the real
            game.
        out: run folder.
        start_from: folder of a saved agent or its run, whose policy is trained further.
        device: where the worlds run; "auto" takes a GPU if there is one.
        allow_env: id of the real game as the world's config has it, such as my_games:MyGame-v0, for --eval-every:
            confirms that this module may be imported. Not needed for registered games.

    Returns: the agent's folder.
    """
    config = config or DreamTraining()
    worlds = [_load(name, device) for name in ([world] if isinstance(world, str | os.PathLike) else world)]
    _check_worlds(worlds, config)
    home, *others = worlds
    folder, model = home.folder, home.model
    meta = AgentMeta(
        env_id=model.config.env_id,
        view=config.obs,
        world_model=home.name,
        reward=config.reward,
        more_worlds=tuple(world_and_weights(other.name, checkpoint.weights_name(other.folder)) for other in others),
    )
    about: dict[str, Any] = {"horizon": config.horizon, "temperature": config.temperature}
    if config.starts != "all":  # which earlier releases did not name
        about["starts"] = config.starts
    about["world_sha256"] = checkpoint.weights_name(folder)
    if start_from is not None:
        about["start_sha256"] = checkpoint.weights_name(checkpoint.agent_folder(start_from))
    of_tries = dict(about)
    if config.tries > 1:
        about |= {"tries": config.tries, "try_steps": config.first_steps}
    if config.eval_every:
        about |= {"eval_every": config.eval_every, "eval_episodes": config.eval_episodes}
        if config.eval_seed != 50_000:  # which earlier releases did not name
            about["eval_seed"] = config.eval_seed
    if is_trained(out, config.agent, meta, about):
        print(f"agent: {out} has its {config.agent.steps:,} steps already")
        return Path(out) / "agent"
    game = _real_game(folder, model, config, allow_env)
    if config.tries > 1:
        first = replace(config.agent, steps=config.first_steps)
        best = best_try(lambda: _dreams(worlds, config), first, config.tries, Path(out), meta, of_tries, start_from)
        start_from = best.folder
    envs = _dreams(worlds, config)
    judge = None
    try:
        judge = _judge(game, model, Path(out), config, meta) if game else None
        train_ppo(
            envs,
            config.agent,
            out,
            meta,
            about=about,
            start_from=start_from,
            callback=judge,
            earlier_steps=config.first_steps,
        )
    finally:
        envs.close()
        if judge is not None:
            judge.eval_env.close()
    if judge is not None:
        print(_selected(judge, Path(out), config, meta))
    return Path(out) / "agent"


def _load(world: str | os.PathLike, device: str) -> World:
    folder = checkpoint.resolve(world)
    return World(checkpoint.lasting_name(world), folder, load_model(folder, device))


def _check_worlds(worlds: Sequence[World], config: DreamTraining) -> None:
    """ValueError, before anything is written, for worlds in which nothing can be learned, or not by one agent."""
    if not worlds:
        raise ValueError("there is no world to train in: give at least one")
    divided(config.agent.num_envs, len(worlds))
    home = worlds[0]
    for world in worlds:
        if config.reward == "world":
            _check_reward(home, world)
        check_alike(home.model, world.model, config.obs, home.name, world.name)


def _check_reward(home: World, world: World) -> None:
    first, reward = home.model.config.reward, world.model.config.reward
    if reward == "none":
        raise ValueError(
            f"the play that {world.name} was learned from had no rewards, so nothing can be learned from its dream. If "
            'its episodes can end, give reward="survival"; or rewards of your own in Python: '
            "train_ppo(DreamVectorEnv(…, reward_fn=…), …)"
        )
    if reward != first:
        raise ValueError(
            f"{world.name} predicts the reward {reward!r}, {home.name} {first!r}: the reward must not depend on the "
            'row; give reward="survival"'
        )


def _dreams(worlds: Sequence[World], config: DreamTraining) -> DreamVectorEnv | MixedDreams:
    parts = [
        DreamVectorEnv(
            rows,
            world.model,
            obs=config.obs,
            horizon=config.horizon,
            temperature=config.temperature,
            reward_fn=survival if config.reward == "survival" else None,
            starts=config.starts,
        )
        for rows, world in zip(divided(config.agent.num_envs, len(worlds)), worlds, strict=True)
    ]
    return parts[0] if len(parts) == 1 else MixedDreams(parts)


def _real_game(folder: Path, model: WorldModel, config: DreamTraining, allow_env: str | None) -> str:
    """Id of the game to judge in, "" if the agent is not judged; the folder's config names it."""
    if not config.eval_every:
        if allow_env is not None:
            raise ValueError(f"allow_env ({allow_env}) is for eval_every, which is 0: leave it out")
        return ""
    if not model.config.env_id:
        raise ValueError(f"this world does not name its game, so eval_every must be 0, got {config.eval_every}")
    return confirmed_id(model.config.env_id, str(folder / "config.json"), allow_env)


def _judge(game: str, model: WorldModel, out: Path, config: DreamTraining, meta: AgentMeta) -> RealEvalCallback:
    """Judges in the game from which the world was learned, and keeps the best agent in `out/best`."""
    games = real_games(game, min(config.eval_episodes, 10), view=(model, config.obs), training=config.agent)
    return RealEvalCallback(
        games,
        config.eval_every,
        config.eval_episodes,
        seed=config.eval_seed,
        on_best=lambda ppo: save_agent(ppo, out / "best", config.agent, meta),
        on_judgement=lambda judge: write_json(out / "selection.json", _selection(judge, config, meta)),
    )


def _selection(judge: RealEvalCallback, config: DreamTraining, meta: AgentMeta) -> dict[str, Any]:
    """How the agent in `best` was chosen, and from which; steps are counted from the beginning of its try."""
    tried = config.first_steps
    return {
        "rule": "highest mean native return of a judgement; the first of equals",
        "env_id": meta.env_id,
        "episodes": config.eval_episodes,
        "seeds": [config.eval_seed + game for game in range(judge.eval_env.num_envs)],  # of each game's first episode
        "judgements": [{"steps": tried + steps, "mean": mean} for steps, mean in judge.judgements],
        "best": {"steps": tried + judge.best_timesteps, "mean": float(judge.best_mean_reward)},
    }


def _selected(judge: RealEvalCallback, out: Path, config: DreamTraining, meta: AgentMeta) -> str:
    """The same in words, with a warning not to take the highest of many means for a result."""
    count, games = len(judge.judgements), judge.eval_env.num_envs
    steps = config.first_steps + judge.best_timesteps
    seeds = f"{config.eval_seed} to {config.eval_seed + games - 1}" if games > 1 else f"{config.eval_seed}"
    return (
        f"best agent: {out / 'best'}, {judge.best_mean_reward:.1f} in {meta.env_id} after {steps:,} "
        f"steps, the highest of {count} judgement{'s' if count > 1 else ''} (mean of {config.eval_episodes} episodes, "
        f"seed{'s' if games > 1 else ''} {seeds}). Its mean on the episodes that chose it is biased upwards: report "
        "what evaluate finds on its own seeds"
    )
