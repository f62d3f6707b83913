import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from tests.tiny import tiny_world
from tests.toy_game import BoundGame, ToyGame, best_action, registered_game, seeing_world
from worldmodel.agents.evaluate import Evaluation, compare_with_random, evaluate
from worldmodel.agents.sb3.agent import load_agent
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.agents.sb3.train import train_ppo
from worldmodel.agents.scripted import RandomPolicy, StickyPolicy
from worldmodel.data import ActionSpec
from worldmodel.envs.actions import action_spec_of, check_actions, named_actions
from worldmodel.envs.dream.env import DreamEnv
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.envs.wrappers import ThreadVectorEnv

GAME = "EvaluateToy-v0"
DREAM = "VideoGenDream-Doom"


registered = registered_game(GAME, ToyGame)


class BestPolicy:
    """Sees which action earns reward; remembers which rows were reset."""

    def __init__(self):
        self.resets = []

    def act(self, observations):
        return best_action(observations)

    def reset(self, rows=None):
        self.resets.append(None if rows is None else list(rows))


def length_of(seed):
    game = ToyGame()
    game.reset(seed=seed)
    return game.left


@pytest.mark.parametrize("num_envs", [1, 3, 10])
def test_episode_i_has_seed_plus_i_for_any_number_of_envs(num_envs):
    result = evaluate(BestPolicy(), GAME, episodes=7, seed=20, num_envs=num_envs)
    assert list(result.lengths) == [length_of(20 + i) for i in range(7)]
    assert result.returns == tuple(map(float, result.lengths))  # native: 1 per step for the best policy
    assert result.env_returns == tuple(10.0 * r for r in result.returns)  # the env's own unit


@pytest.mark.parametrize("kind", [RandomPolicy, StickyPolicy])
def test_scripted_episodes_do_not_depend_on_the_number_of_envs(kind):
    one, many = (evaluate(kind, GAME, episodes=9, seed=3, num_envs=n) for n in (1, 4))
    assert one == many == evaluate(kind(ToyGame().action_spec, seed=5), GAME, episodes=9, seed=3)
    assert len(set(one.returns)) > 1
    assert evaluate(kind, GAME, episodes=9, seed=30) != one


@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_game_bound_to_the_thread_that_made_it_can_be_evaluated(num_envs, monkeypatch):
    unbound = evaluate(RandomPolicy, GAME, episodes=5, seed=3)
    monkeypatch.setattr(gym.registry[GAME], "entry_point", BoundGame)
    view = (seeing_world(), "codes")
    assert evaluate(RandomPolicy, GAME, episodes=5, seed=3, view=view, num_envs=num_envs).returns == unbound.returns


def test_a_policy_is_reset_in_rows_that_begin_an_episode():
    policy = BestPolicy()
    evaluate(policy, GAME, episodes=5, num_envs=2)
    assert policy.resets[:2] == [None, [0, 1]]
    assert sum(map(len, policy.resets[2:])) == 3  # the remaining episodes, each in one row


def test_watch_gets_every_step_of_every_episode_and_its_end():
    rewards, ends = [[] for _ in range(7)], [0] * 7

    def watch(episodes, step_rewards, terminations):
        for episode, reward, terminated in zip(episodes, step_rewards, terminations, strict=True):
            rewards[episode].append(float(reward))
            ends[episode] += terminated

    result = evaluate(BestPolicy(), GAME, episodes=7, seed=20, num_envs=3, watch=watch)
    assert [len(episode) for episode in rewards] == list(result.lengths)
    assert [sum(episode) for episode in rewards] == list(result.env_returns)
    games = [ToyGame() for _ in range(7)]
    for i, game in enumerate(games):
        game.reset(seed=20 + i)
    assert ends == [int(game.dies) for game in games] and 0 < sum(ends) < 7


def test_every_game_is_closed_even_after_an_error():
    closed = []

    class Closes(ToyGame):
        def close(self):
            closed.append(self)

    class Fails(BestPolicy):
        def act(self, observations):
            raise RuntimeError("no idea")

    gym.registry[GAME].entry_point = Closes
    with pytest.raises(RuntimeError, match="no idea") as error:
        evaluate(Fails(), GAME, episodes=3)
    assert len(closed) == 3, f"not closed, although nobody needs them after {error}"  # error keeps them alive


def test_a_view_shows_the_game_as_the_dream_would():
    seen = []

    class Watches(BestPolicy):
        def act(self, observations):
            seen.append(observations)
            return np.zeros(len(observations), np.int64)

    evaluate(Watches(), GAME, episodes=2, view=(seeing_world(), "codes"))
    assert {(o.dtype, o.shape) for o in seen} == {(np.dtype(np.int64), (2, 2, 2, 2))}
    assert len(np.unique(seen)) > 3


def test_a_dream_is_evaluated_as_one_batch_with_the_rows_own_seeds():
    world = tiny_world()
    result = evaluate(RandomPolicy, DREAM, episodes=5, seed=8, num_envs=3, model=world, horizon=4)
    assert result.lengths == (4,) * 5 and result.returns == result.env_returns
    env, policy = DreamEnv(world, horizon=4), RandomPolicy(ActionSpec(kind="discrete", n=3), seed=12)
    observation = env.reset(seed=12)[0]
    alone = sum(env.step(int(policy.act(observation[None])[0]))[1] for _ in range(4))
    np.testing.assert_allclose(result.returns[4], alone, rtol=1e-5)


def test_a_dream_without_an_end_is_refused():
    with pytest.raises(ValueError, match="horizon=200"):
        evaluate(RandomPolicy, DREAM, episodes=2, model=tiny_world())


@pytest.mark.parametrize("entry_point", ["worldmodel.envs:DreamEnv", DreamEnv])
def test_so_is_one_that_a_user_registered_unless_it_has_a_time_limit(entry_point):
    gym.register("EvaluateOwnDream-v0", entry_point=entry_point, kwargs={"model": tiny_world()})
    try:
        with pytest.raises(ValueError, match="horizon=200"):
            evaluate(RandomPolicy, "EvaluateOwnDream-v0", episodes=2)
        assert evaluate(RandomPolicy, "EvaluateOwnDream-v0", episodes=2, max_episode_steps=3).lengths == (3, 3)
    finally:
        del gym.registry["EvaluateOwnDream-v0"]


def test_random_play_meets_the_same_seeds():
    agent, random = comparison = compare_with_random(BestPolicy(), GAME, 6, seed=5)
    assert agent.lengths == random.lengths and agent.seed == random.seed
    assert agent.returns == evaluate(BestPolicy(), GAME, 6, seed=5).returns
    gain, half_width = comparison.gain
    assert gain == pytest.approx(agent.mean - random.mean) and gain - half_width > 0


def test_an_agent_is_reseeded_for_every_episode(tmp_path):
    config = AgentConfig(steps=8, num_envs=2, n_steps=4, batch_size=8, n_epochs=1, features_dim=8, channels=4)
    train_ppo(ThreadVectorEnv(ToyGame, 2), config, tmp_path)
    results = [
        evaluate(load_agent(tmp_path / "agent", seed=s), GAME, 8, num_envs=n) for s, n in ((0, 2), (1, 2), (0, 8))
    ]
    assert results[0] == results[1] == results[2]


class Named(ToyGame):
    """Names its actions, and is never reset."""

    names = ("wait", "left", "right")

    def __init__(self):
        super().__init__()
        self.action_spec = ActionSpec(kind="discrete", n=3, names=self.names)

    def reset(self, **kwargs):
        raise AssertionError("played")


@pytest.mark.parametrize(
    "spec",
    [
        ActionSpec(kind="discrete", n=4),
        ActionSpec(kind="box", n=3, low=(0.0,) * 3, high=(1.0,) * 3),
        ActionSpec(kind="discrete", n=3, names=("wait", "right", "left")),
    ],
)
def test_a_policy_of_another_game_is_refused_before_it_plays(spec):
    gym.register("EvaluateNamed-v0", entry_point=Named)
    try:
        with pytest.raises(ValueError, match=r"the policy and .*EvaluateNamed-v0 differ in their actions: .*same game"):
            evaluate(RandomPolicy(spec), "EvaluateNamed-v0", 1)
        for names in ((), Named.names):
            with pytest.raises(AssertionError, match="played"):
                evaluate(RandomPolicy(ActionSpec(kind="discrete", n=3, names=names)), "EvaluateNamed-v0", 1)
    finally:
        del gym.registry["EvaluateNamed-v0"]


def test_actions_are_named_if_the_env_has_an_action_spec():
    """Also through wrappers and in vector envs, but not if a wrapper changes the actions."""
    world = tiny_world()
    names = world.config.action.names
    assert named_actions(DreamEnv(world)).names == named_actions(DreamVectorEnv(2, world)).names == names
    envs = SyncVectorEnv([lambda: gym.wrappers.TimeLimit(Named(), 3)] * 2)
    assert named_actions(envs).names == named_actions(ThreadVectorEnv(Named, 1)).names == Named.names
    fewer = gym.wrappers.TransformAction(Named(), lambda action: action, gym.spaces.Discrete(2))
    assert named_actions(fewer) == ActionSpec(kind="discrete", n=2)


def test_bounds_of_an_action_spec_stay_as_it_states_them():
    """Those of the space are rounded to float32; a store would have other settings than before."""

    game = ToyGame()
    game.action_spec = ActionSpec(kind="box", n=1, low=(-0.1,), high=(0.7,), names=("push",))
    game.action_space = game.action_spec.to_gym()
    assert named_actions(game) == named_actions(gym.wrappers.TimeLimit(game, 3)) == game.action_spec


def test_bounds_rounded_by_a_space_count_as_equal():
    spec = ActionSpec(kind="box", n=2, low=(-0.14, 0.0), high=(0.03, 0.7))
    check_actions(spec, action_spec_of(spec.to_gym()), "one", "another")
    with pytest.raises(ValueError, match=r"one and .* differ in their actions"):
        check_actions(spec, ActionSpec(kind="box", n=2, low=(-0.14, 0.0), high=(0.03, 0.71)), "one", "another")


def test_objects_that_are_not_policies_are_refused_with_what_is_expected():
    class Model:
        def predict(self, observation):
            return 0

    for wrong in (Model(), "random", None):
        with pytest.raises(
            TypeError, match=rf"a policy must have act.* got a {type(wrong).__name__}\. .* SB3Policy\(model\)"
        ):
            evaluate(wrong, GAME, 1)


def test_a_policy_that_can_be_called_is_not_called():
    class Called(BestPolicy):
        def __call__(self, *_):
            raise AssertionError("called")

    assert evaluate(Called(), GAME, 2) == evaluate(BestPolicy(), GAME, 2)


def test_agents_can_take_their_likeliest_actions():
    class Choosing(BestPolicy):
        def act(self, observations, deterministic=False):
            return super().act(observations) if deterministic else np.full(len(observations), 0)

    best = evaluate(BestPolicy(), GAME, 4)
    assert evaluate(Choosing(), GAME, 4, deterministic=True) == best != evaluate(Choosing(), GAME, 4)
    assert evaluate(lambda *_: Choosing(), GAME, 4, deterministic=True) == best
    assert compare_with_random(Choosing(), GAME, 4, deterministic=True).agent == best
    for policy in (BestPolicy(), RandomPolicy):
        with pytest.raises(
            ValueError, match=r"deterministic=True is for agents: (BestPolicy|RandomPolicy)\.act has no"
        ):
            evaluate(policy, GAME, 4, deterministic=True)


def test_mean_and_interval_follow_from_the_returns():
    result = Evaluation(env_id="Game", seed=0, returns=(1.0, 2.0, 3.0), env_returns=(0.0,) * 3, lengths=(1, 1, 1))
    assert result.mean == 2.0
    assert result.half_width == pytest.approx(4.303 / 3**0.5, rel=1e-3)  # t(0.975, 2) = 4.303, deviation 1
    assert str(result) == "2.0 ± 2.5 (95 %, 3 episodes of Game)"
    alone = Evaluation(env_id="Game", seed=0, returns=(1.0,), env_returns=(0.0,), lengths=(1,))
    assert str(alone) == "1.0 (1 episode of Game, no interval)"


@pytest.mark.parametrize("numbers", [{"episodes": 0}, {"episodes": 3, "num_envs": 0}])
def test_bad_numbers_are_refused(numbers):
    with pytest.raises(ValueError, match="episodes and num_envs must be at least 1"):
        evaluate(BestPolicy(), GAME, **numbers)


def test_a_game_may_be_named_with_the_module_that_registers_it():
    one = evaluate(RandomPolicy, "tests.training.counting_game:CountingGame-v0", episodes=2)
    assert one.returns == evaluate(RandomPolicy, "CountingGame-v0", episodes=2).returns


def test_a_game_with_a_vector_env_of_its_own_is_played_with_a_seed_for_each_episode():
    """Gymnasium's CartPole-v1 has one, which takes a single seed."""
    three = evaluate(RandomPolicy, "CartPole-v1", episodes=3, seed=5)
    assert three.lengths[2] == evaluate(RandomPolicy, "CartPole-v1", episodes=1, seed=7).lengths[0]


def test_an_unknown_game_raises_gymnasiums_error():
    with pytest.raises(gym.error.NameNotFound):
        evaluate(BestPolicy(), "VideoGenReal-Dooom", 1)


def test_action_spaces_become_specs():
    box = gym.spaces.Box(np.float32([-1, 0]), np.float32([1, 2]))
    assert action_spec_of(box) == ActionSpec(kind="box", n=2, low=(-1.0, 0.0), high=(1.0, 2.0))
    assert action_spec_of(gym.spaces.Discrete(4)) == ActionSpec(kind="discrete", n=4)
    for space in (
        gym.spaces.Discrete(3, start=1),
        gym.spaces.MultiDiscrete([2, 2]),
        gym.spaces.Box(0, 1, (2, 2)),
        gym.spaces.Box(0, 1, (2,), int),
    ):
        with pytest.raises(ValueError, match="Discrete from 0 or a one-dimensional Box of floats"):
            action_spec_of(space)


def test_a_policy_maker_gets_the_names_of_the_actions():
    specs = []

    def make(spec):
        specs.append(spec)
        return RandomPolicy(spec)

    evaluate(make, DREAM, 1, horizon=1, model=tiny_world(), obs="codes")
    assert [spec.names for spec in specs] == [("noop", "left", "right")]
