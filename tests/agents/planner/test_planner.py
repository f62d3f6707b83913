"""The planner finds the plan with the highest return, row by row, and plays dreams and games like any policy."""

from dataclasses import replace
from itertools import product

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.clips import clip_world
from tests.tiny import tiny_config, tiny_world
from tests.toy_game import ToyGame, seeing_world
from worldmodel.agents.evaluate import compare_with_random, evaluate
from worldmodel.agents.planner.config import PlannerConfig, plan_returns
from worldmodel.agents.planner.planner import Planner
from worldmodel.agents.scripted import EpsilonPolicy
from worldmodel.data import ActionSpec
from worldmodel.model import WorldModel
from worldmodel.model.batches import Starts

DREAM = "VideoGenDream-Doom"
GAME = "PlannerToy-v0"
SMALL = PlannerConfig(horizon=3, candidates=8, iterations=2, elites=2)
BOX = ActionSpec(kind="box", n=2, low=(-1.0, 0.0), high=(1.0, 4.0))
KINDS = [
    {"order": "block"},
    {"order": "raster"},
    {"order": "block", "position": "time", "max_steps": 6, "window": 6},
    {"order": "block", "frame_condition": 1},
]


def box_world() -> WorldModel:
    """A tiny world with actions of two dimensions."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        world = WorldModel(replace(tiny_config(), action=BOX))
    world.starts = Starts(torch.zeros(2, 2, 2, 2, 2, dtype=torch.int64), torch.zeros(2, 1, 2), torch.ones(2, 2, 1))
    return world.prepare(torch.float32)


def codes_of(rows: int, seed: int = 0) -> np.ndarray:
    """Observations of any step."""
    return np.random.default_rng(seed).integers(16, size=(rows, 2, 2, 2))


def begin(world: WorldModel, codes: np.ndarray):
    """The state in which a planner begins, at health 50."""
    none = torch.zeros(len(codes), 0, dtype=torch.int64)
    return world.start_codes(codes[:, None], none, torch.full((len(codes), 1), 50.0))


# --- it improves -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cem", "shooting"])
def test_planning_in_a_dream_earns_more_than_random_play(method):
    config = PlannerConfig(method=method, horizon=3, candidates=16, iterations=2, elites=4)
    options = {"model": tiny_world(), "obs": "codes", "horizon": 8}
    result = compare_with_random(Planner(options["model"], config), DREAM, 8, seed=3, num_envs=8, **options)
    gain, half_width = result.gain
    assert gain - half_width > 0


def all_plans(world: WorldModel, codes: np.ndarray, config: PlannerConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Every plan (3**H, H), and what each row would earn by it (n, 3**H)."""
    plans = torch.tensor(list(product(range(3), repeat=config.horizon)))
    branches = world.branch(begin(world, codes), plans.expand(len(codes), -1, -1), config.temperature)
    return plans, plan_returns(branches.rewards, branches.terminated, branches.termination_probability, config)


@pytest.mark.parametrize("ends", ["expected", "hard"])
def test_drawn_ends_are_weighed_by_their_probability_or_drawn(ends, monkeypatch):
    """Not both: futures that end would be as many as their probability says, and count as if they were fewer."""
    world, seen = tiny_world(heads={"ends": "drawn"}), []
    world.heads.end_shift.fill_(-1.0)

    def returns(rewards, terminated, probability, config):
        seen.append((terminated, probability))
        return plan_returns(rewards, terminated, probability, config)

    monkeypatch.setattr("worldmodel.agents.planner.planner.plan_returns", returns)
    config = PlannerConfig(horizon=4, candidates=16, elites=4, ends=ends)
    Planner(world, config, signals={"HEALTH": 50}).act(codes_of(3))
    assert any(terminated.any() for terminated, _ in seen) == (ends == "hard")
    assert all(probability.any() for _, probability in seen)


@pytest.mark.parametrize("method", ["cem", "shooting"])
def test_the_best_plan_is_found_if_all_plans_can_be_tried(method):
    sizes = {"cem": {"candidates": 64, "iterations": 4, "elites": 12}, "shooting": {"candidates": 400, "elites": 0}}
    options = sizes[method]
    config = PlannerConfig(method=method, horizon=4, repeat=0.0, temperature=0, replan_every=4, **options)
    world, codes = tiny_world(), codes_of(5)
    plans, returns = all_plans(world, codes, config)
    planner = Planner(world, config, signals={"HEALTH": 50})
    done = np.stack([planner.act(codes) for _ in range(4)], axis=1)  # the plan, whatever is observed
    best = plans[returns.argmax(1)]
    assert len(best.unique(dim=0)) > 2
    assert done.tolist() == best.tolist()


def away_from(target: torch.Tensor):
    """The reward for actions near a target."""
    return lambda step: -(step.actions - target).square().sum(-1)


def test_refitting_finds_continuous_actions_that_sampling_once_does_not():
    world, target = box_world(), torch.tensor([0.7, 1.0])
    errors = {}
    for method, candidates in (("cem", 40), ("shooting", 160)):
        config = PlannerConfig(
            method=method, horizon=3, candidates=candidates, iterations=4, elites=6, repeat=0.0, replan_every=3
        )
        planner = Planner(world, config, away_from(target))
        done = torch.stack([torch.from_numpy(planner.act(codes_of(4))) for _ in range(3)])
        assert done.dtype == torch.float32 and done.shape == (3, 4, 2)
        errors[method] = (done - target).square().mean().item()
    assert errors["cem"] < 0.05
    assert errors["cem"] < errors["shooting"] / 3


def test_continuous_actions_reach_their_bounds_but_do_not_exceed_them():
    world, target = box_world(), torch.tensor([5.0, -5.0])
    actions = Planner(world, replace(SMALL, candidates=64, iterations=3), away_from(target)).act(codes_of(3))
    BOX.check(actions)
    np.testing.assert_allclose(actions, [[1.0, 0.0]] * 3, atol=0.05)


@pytest.mark.parametrize("seen", ["frames", "latents"])
def test_a_goal_image_is_reached_if_an_action_leads_there(seen):
    world, codes = tiny_world(), codes_of(1, seed=4)
    config = PlannerConfig(horizon=1, candidates=12, iterations=1, elites=1, temperature=0)
    reached = set()
    for action in range(3):
        _, out = world.step(begin(world, codes), torch.tensor([action]), temperature=0)
        goal = getattr(out, seen)().float()

        def near(step, goal=goal):
            return -(getattr(step, seen)().float() - goal).square().flatten(1).mean(1)

        chosen = Planner(world, config, near, signals={"HEALTH": 50}).act(codes)
        _, got = world.step(begin(world, codes), torch.from_numpy(chosen), temperature=0)
        assert torch.equal(got.codes, out.codes)
        reached.add(tuple(out.codes.flatten().tolist()))
    assert len(reached) > 1


# --- what counts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["hard", "expected"])
def test_if_every_step_is_an_end_only_the_first_reward_counts(ends):
    world, codes = tiny_world(), codes_of(6)
    world.heads.threshold.fill_(0.0)
    plans, returns = all_plans(world, codes, replace(SMALL, horizon=1, temperature=0, ends=ends))
    config = replace(SMALL, candidates=32, temperature=0, ends=ends)
    greedy = plans[returns.argmax(1), 0].tolist()
    assert Planner(world, config, signals={"HEALTH": 50}).act(codes).tolist() == greedy
    far_sighted = Planner(world, replace(config, ends="ignore"), signals={"HEALTH": 50}).act(codes)
    assert far_sighted.tolist() != greedy


def test_a_reward_function_gets_the_whole_of_every_dreamt_step():
    world, steps = tiny_world(), []

    def reward(step):
        steps.append(step)
        return step.signals["HEALTH"] - step.signals_before["HEALTH"]

    planner = Planner(world, replace(SMALL, futures=2, iterations=1), reward)
    planner.act(codes_of(2), signals=np.array([[10.0], [20.0]]))
    (step,) = steps
    after, before = (health["HEALTH"].view(2, 16, 3) for health in (step.signals, step.signals_before))
    assert torch.equal(before[..., 0], torch.tensor([[10.0], [20.0]]).expand(2, 16))
    assert torch.equal(before[..., 1:], after[..., :-1])
    branches = world.branch(planner._state, step.actions.view(2, 16, 3))
    assert step.codes.shape == (96, 2, 2, 2) and step.reward.shape == step.terminated.shape == (96,)
    # The first of two futures of a plan has the plan's actions, and so has the second.
    assert torch.equal(step.actions.view(2, 8, 2, 3)[:, :, 0], step.actions.view(2, 8, 2, 3)[:, :, 1])
    assert not torch.equal(step.codes.view(2, 8, 2, -1)[:, :, 0], step.codes.view(2, 8, 2, -1)[:, :, 1])
    assert step.codes.flatten(1).float().mean() == pytest.approx(branches.codes.float().mean().item(), abs=1)


def test_a_reward_function_can_repeat_the_models_own_reward_and_decodes_nothing(monkeypatch):
    world, codes = tiny_world(), codes_of(4)
    monkeypatch.setattr(world.tokenizer, "decode", None)  # not to be called
    own = Planner(world, SMALL).act(codes)
    assert Planner(world, SMALL, lambda step: step.reward).act(codes).tolist() == own.tolist()
    assert Planner(world, SMALL, lambda step: -step.reward).act(codes).tolist() != own.tolist()


def test_episodes_begin_with_the_given_game_variables_or_the_starts_median():
    world, seen = tiny_world(), []

    def reward(step):
        seen.append(step.signals_before["HEALTH"][0].item())
        return step.reward

    config = replace(SMALL, iterations=1)
    Planner(world, config, reward).act(codes_of(1))
    Planner(world, config, reward, signals={"HEALTH": 100}).act(codes_of(1))
    world.starts = None
    Planner(world, config, reward).act(codes_of(1))
    assert seen == [tiny_world().starts.signals[:, -1].median().item(), 100.0, 0.0]


# --- rows and time -----------------------------------------------------------------------------------------------


def play(planner: Planner, rows: list[int], resets: dict[int, int], steps: int = 7) -> np.ndarray:
    """(steps, rows) actions; `resets` says at which step which row restarts, with its own seed."""
    planner.reset()
    planner.seed_rows(np.arange(len(rows)), [100 + row for row in rows])
    actions = []
    for step in range(steps):
        if step in resets and resets[step] in rows:
            index = rows.index(resets[step])
            planner.reset(np.array([index]))
            planner.seed_rows([index], [200 + step])
        actions.append(planner.act(codes_of(4, seed=step)[rows]))
    return np.stack(actions)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_row_plays_the_same_alone_and_among_others(kind):
    planner = Planner(tiny_world(**kind), replace(SMALL, replan_every=2))
    resets = {3: 1, 4: 2}
    together = play(planner, [0, 1, 2], resets)
    for row in range(3):
        assert play(planner, [row], resets)[:, 0].tolist() == together[:, row].tolist()
    assert (together[:, 0] != together[:, 1]).any()


def test_a_new_episode_does_not_depend_on_the_last_one():
    planner = Planner(tiny_world(), replace(SMALL, replan_every=2))
    after_another = play(planner, [1], {3: 1})[3:]
    anew = Planner(tiny_world(), replace(SMALL, replan_every=2))
    anew.seed_rows([0], [203])
    assert after_another.tolist() == [anew.act(codes_of(4, seed=step)[[1]]).tolist() for step in range(3, 7)]


def test_seeds_decide_all_draws():
    # Of plans that pay alike the first drawn is taken, so actions show the draws.
    config = replace(SMALL, horizon=1, iterations=1)

    world = tiny_world()

    def draws(seed, rows_seeds=None):
        planner = Planner(world, config, lambda step: torch.zeros(len(step)), seed=seed)
        actions = []
        for _ in range(8):
            planner.reset()
            if rows_seeds is not None and not actions:
                planner.seed_rows([0, 1], rows_seeds)
            actions.append(tuple(planner.act(codes_of(2))))
        return actions

    five, rows = draws(5), draws(5, [1, 2])
    assert draws(5) == five != draws(6)
    assert rows == draws(6, [1, 2])
    assert [row[::-1] for row in draws(5, [2, 1])] == rows != five
    assert len(set(five)) > 2  # the next episode draws new numbers


def test_the_dream_follows_the_game():
    world = tiny_world()
    planner = Planner(world, SMALL)
    state, actions = begin(world, codes_of(2)), planner.act(codes_of(2))
    for step in range(1, 4):
        codes = codes_of(2, seed=step)
        state, _ = world.observe(state, actions, codes)
        actions = planner.act(codes)
    assert torch.equal(world.features(planner._state), world.features(state))


def test_a_plan_is_followed_before_the_next_is_made(monkeypatch):
    world, planned = tiny_world(), []
    planner = Planner(world, replace(SMALL, replan_every=3, iterations=1))
    branch = world.branch
    monkeypatch.setattr(
        world, "branch", lambda state, *rest, **options: planned.append(len(state)) or branch(state, *rest, **options)
    )
    for step in range(7):
        if step == 2:
            planner.reset(np.array([1]))
        planner.act(codes_of(3))
        planned.append(".")
    assert planned == [3, ".", ".", 1, ".", 2, ".", ".", 1, ".", 2, "."]


def test_a_good_plan_is_kept_for_the_next_decision():
    world, target = box_world(), torch.tensor([0.7, 1.0])
    config = PlannerConfig(horizon=3, candidates=20, iterations=1, elites=4, repeat=0.0)
    errors = {}
    for forgets in (False, True):
        planner = Planner(world, config, away_from(target))
        for _ in range(6):
            if forgets:
                planner.reset()
            errors[forgets] = np.square(planner.act(codes_of(16)) - target.numpy()).mean()
    assert errors[False] < errors[True] / 2


@pytest.mark.parametrize("batch", [2, 7])
def test_a_small_batch_changes_nothing_but_the_memory(batch, monkeypatch):
    world, codes, sizes = tiny_world(), codes_of(3), []
    whole = Planner(world, replace(SMALL, futures=2)).act(codes)
    branch = world.branch
    monkeypatch.setattr(
        world, "branch", lambda *asked, **options: sizes.append(asked[1][..., 0].numel()) or branch(*asked, **options)
    )
    assert Planner(world, replace(SMALL, futures=2, batch=batch)).act(codes).tolist() == whole.tolist()
    assert sum(sizes) == 3 * 8 * 2 * 2 and max(sizes) <= batch  # rows, plans, futures, rounds


@pytest.fixture
def game():
    gym.register(GAME, entry_point=ToyGame)
    yield GAME
    del gym.registry[GAME]


def test_a_real_game_is_played_through_a_view_independently_of_the_number_of_envs(game):
    world = seeing_world()
    one, many = (
        evaluate(Planner(world, SMALL), game, episodes=4, seed=5, num_envs=n, view=(world, "codes")) for n in (1, 3)
    )
    assert one == many and len(one.returns) == 4


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temporal", ["clip", "causal"])
def test_a_model_that_cannot_dream_is_refused(temporal):
    with pytest.raises(ValueError, match=f'temporal="{temporal}" cannot dream'):
        Planner(clip_world(temporal))


def test_a_model_that_needs_more_than_one_first_step_is_refused():
    with pytest.raises(ValueError, match=r"needs 2 \(frame_condition\)"):
        Planner(tiny_world(frame_condition=2))


@pytest.mark.parametrize("observations", [np.zeros((2, 16, 16, 3), np.uint8), np.zeros((2, 2, 2, 2), np.float32)])
def test_observations_other_than_codes_are_refused(observations):
    with pytest.raises(ValueError, match=r'integers of shape \(n, 2, 2, 2\).*obs="codes"'):
        Planner(tiny_world(), SMALL).act(observations)


def test_another_number_of_envs_needs_a_reset():
    planner = Planner(tiny_world(), SMALL)
    planner.act(codes_of(2))
    with pytest.raises(ValueError, match=r"plays 2 envs, got 3 observations; call reset\(\) first"):
        planner.act(codes_of(3))
    planner.reset()
    assert planner.act(codes_of(3)).shape == (3,)


def test_unknown_game_variables_are_refused():
    with pytest.raises(ValueError, match=r"no signal 'HEALHT'\. Did you mean 'HEALTH'"):
        Planner(tiny_world(), signals={"HEALHT": 1})
    with pytest.raises(ValueError, match=r"signals must be \(2, 1\), .*, got \(2,\)"):
        Planner(tiny_world(), SMALL).act(codes_of(2), signals=np.ones(2))


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda step: step.reward.mean(), r"each of 24 steps, \(24,\), got \(\)"),
        (lambda step: step.reward / 0, r"got \(24,\) with values that are not finite"),
    ],
)
def test_invalid_rewards_are_refused(reward, message):
    with pytest.raises(ValueError, match=message):
        Planner(tiny_world(), SMALL, reward).act(codes_of(1))


def test_reported_game_variables_replace_predicted_ones():
    seen = []

    def reward(step):
        seen.append(step.signals_before["HEALTH"].view(2, -1, SMALL.horizon)[:, 0, 0].tolist())
        return step.reward

    planner = Planner(tiny_world(), replace(SMALL, iterations=1), reward, signals={"HEALTH": 50})
    planner.inform({"HEALTH": np.array([80.0, 0.0]), "_HEALTH": np.array([True, False])})
    planner.act(codes_of(2))
    assert seen[-1] == [80.0, 50.0]  # nothing was passed for row 1
    planner.inform({"HEALTH": np.array([70.0, 60.0]), "_HEALTH": np.array([True, True])})
    planner.inform({"HEALTH": np.array([0.0, 90.0]), "_HEALTH": np.array([False, True])})  # a reset of row 1
    planner.act(codes_of(2))
    assert seen[-1] == [70.0, 90.0]
    planner.act(codes_of(2))
    assert seen[-1] not in ([70.0, 90.0], [50.0, 50.0])  # without further infos the heads keep counting


def test_game_variables_that_are_not_finite_are_refused():
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="signals must be finite; omit HEALTH"):
            Planner(tiny_world(), SMALL, signals={"HEALTH": value})


def test_a_planner_follows_actions_executed_instead_of_its_own(monkeypatch):
    world = tiny_world()
    planner = Planner(world, SMALL)
    noisy = EpsilonPolicy(planner, 0.5, world.config.action)
    noisy.seed_rows(range(8), range(8))
    noisy.inform({"HEALTH": np.full(8, 80.0), "_HEALTH": np.ones(8, bool)})
    followed = []
    observe = WorldModel.observe
    monkeypatch.setattr(
        WorldModel,
        "observe",
        lambda self, state, actions, codes: followed.append(actions) or observe(self, state, actions, codes),
    )
    done = [noisy.act(codes_of(8, step)) for step in range(4)]
    np.testing.assert_array_equal(followed, done[:-1])
    assert planner._seeds.tolist() == list(range(8))
    alone = Planner(world, SMALL)
    assert any(not np.array_equal(alone.act(codes_of(8, step)), actions) for step, actions in enumerate(done))
    with pytest.raises(ValueError, match=r"actions of all rows, got shape \(2,\)"):
        planner.acted(np.zeros(2, np.int64))


def test_a_planner_under_noise_gets_the_game_variables():
    world = tiny_world()
    planner = Planner(world, SMALL, signals={"HEALTH": 50})
    noisy = EpsilonPolicy(planner, 0.5, world.config.action)
    noisy.inform({"HEALTH": np.array([80.0, 70.0]), "_HEALTH": np.ones(2, bool)})
    noisy.act(codes_of(2))
    assert planner._state.signals.flatten().tolist() == [80.0, 70.0]


def test_evaluate_passes_the_game_variables_to_a_planner(game, monkeypatch):
    passed = []
    inform = Planner.inform
    monkeypatch.setattr(Planner, "inform", lambda self, infos: passed.append(dict(infos)) or inform(self, infos))
    world = seeing_world()
    evaluate(Planner(world, SMALL), game, 3, view=(world, "codes"), num_envs=2)
    assert all({"HEALTH", "_HEALTH"} <= set(infos) for infos in passed)
    assert passed[0]["_HEALTH"].all() and len(passed) > 4
