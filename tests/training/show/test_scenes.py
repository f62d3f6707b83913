"""What is shown of games and dreams is what is played and evaluated there."""

import shutil

import gymnasium
import numpy as np
import pytest
import torch

from tests.tiny import tiny_world
from tests.toy_game import FRAMES, ToyGame
from tests.training.counting_game import TWO_BUTTONS
from worldmodel.agents.evaluate import evaluate
from worldmodel.agents.policy import Policy
from worldmodel.agents.sb3.agent import load_agent
from worldmodel.agents.sb3.config import AgentConfig, AgentMeta
from worldmodel.agents.sb3.train import train_ppo
from worldmodel.agents.scripted import StickyPolicy
from worldmodel.data import ActionSpec
from worldmodel.envs import DreamEnv, DreamVectorEnv
from worldmodel.training.show.scenes import DreamScene, GameScene, open_scene

COUNTING = "tests.training.counting_game:LargerCountingGame-v0"  # frames of 16 × 16, as the tiny world's


def toy_scene(**options) -> GameScene:
    game = ToyGame()
    return GameScene(game, game.action_spec, **options)


@pytest.fixture(scope="module")
def world_folder(tmp_path_factory):
    return tiny_world().save_pretrained(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def agent_folder(tmp_path_factory, world_folder):
    config = AgentConfig(steps=32, num_envs=2, n_steps=16, batch_size=16, n_epochs=1)
    dreams = DreamVectorEnv(2, str(world_folder), obs="latent", horizon=8)
    meta = AgentMeta(env_id=COUNTING, view="latent", world_model=str(world_folder))
    run = tmp_path_factory.mktemp("agent")
    train_ppo(dreams, config, run, meta)
    return run / "agent"


def test_a_game_without_frames_is_refused_with_the_way_to_show_it():
    with pytest.raises(ValueError, match=r"this env's info holds nothing\. Wrap a game .*PixelGame"):
        open_scene("CartPole-v1", "random").begin()


def test_a_wrapper_that_replaces_a_games_actions_is_played_with_its_own():
    scene = open_scene(TWO_BUTTONS, "random", seed=1)
    assert scene.action == ActionSpec(kind="discrete", n=2)
    scene.begin()
    while not scene.step().ended:
        assert scene.last_action in (0, 1)
    scene.close()


def test_shown_returns_are_those_of_the_env():
    scene = toy_scene()
    shown = scene.begin()
    assert shown.frames.shape == FRAMES and (shown.step, shown.total, shown.native) == (0, 0.0, 0.0)
    rewards = []
    while not shown.ended:
        shown = scene.step(1)
        rewards.append(shown.reward)
    assert shown.total == sum(rewards) and shown.native == sum(rewards) / 10 and shown.step == len(rewards)
    with pytest.raises(ValueError, match=r"begin\(\)"):
        scene.step(1)


def test_episodes_are_those_of_evaluate(agent_folder, world_folder):
    scene = open_scene(COUNTING, agent_folder, seed=7)
    agent = load_agent(agent_folder)
    judged = evaluate(agent, COUNTING, 3, seed=7, view=agent.view(), num_envs=2)
    for expected, length in zip(judged.env_returns, judged.lengths, strict=True):
        shown = scene.begin()
        while not shown.ended:
            shown = scene.step()
        assert (shown.total, shown.step) == (expected, length)
    scene.close()


def test_a_dream_shows_all_frames_of_its_steps():
    world = tiny_world()
    scene = DreamScene(DreamEnv(world, "codes"))
    scene.begin()
    shown = scene.step(2)
    codes = scene.dream.state.codes
    assert torch.equal(torch.from_numpy(shown.frames), world.tokenizer.decode(codes[:, None])[0, 0])
    assert shown.native is None and shown.nll > 0 and "HEALTH" in shown.signals


def test_a_dream_taken_back_continues_as_before():
    scene = DreamScene(DreamEnv(tiny_world(), "codes"))
    scene.begin()
    steps = [scene.step(action) for action in (0, 1, 2, 1, 0)]
    assert scene.take_back(3) == steps[1]
    for action, before in zip((2, 1, 0), steps[2:], strict=True):
        again = scene.step(action)
        assert np.array_equal(again.frames, before.frames) and again[1:] == before[1:]
    assert scene.take_back(100).step == 0
    assert scene.take_back(1).step == 0


def test_a_failed_step_cannot_be_taken_back():
    scene = DreamScene(DreamEnv(tiny_world(), "codes"))
    scene.begin()
    scene.step(1)
    with pytest.raises(gymnasium.error.InvalidAction):
        scene.step(99)
    assert scene.take_back(1).step == 0


def test_a_dream_that_a_user_registered_keeps_its_settings(world_folder):
    settings = {"model": str(world_folder), "horizon": 2}
    gymnasium.register("ShortDream-v0", entry_point="worldmodel.envs:DreamEnv", kwargs=settings)
    scene = open_scene("ShortDream-v0", "random")
    scene.begin()
    assert [scene.step().ended for _ in range(2)] == ["", "truncated"]
    scene = open_scene("ShortDream-v0", "random", world=world_folder)
    assert scene.dream._dreams.rules.horizon == 2


def test_a_folder_may_have_the_name_of_an_env(world_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(world_folder, "VideoGenRuns")
    assert open_scene("VideoGenRuns").is_dream


def test_a_policy_forgets_what_was_taken_back():
    looked = []

    class Looking(Counting):
        def act(self, observations):
            looked.append(observations[0].tobytes())
            return super().act(observations)

        def reset(self, rows=None):
            looked.clear()

    scene = DreamScene(DreamEnv(tiny_world(), "codes"), Looking())
    scene.begin()
    for _ in range(3):
        scene.step()
    before = looked[:1]
    scene.take_back(2)
    assert looked == before


def test_a_policy_gets_the_actions_executed_instead_of_its_own():
    given = []

    class Recording(Counting):
        def acted(self, actions):
            given.append(actions.tolist())

    scene = DreamScene(DreamEnv(tiny_world(), "codes"), Recording())
    scene.begin()
    scene.step(2)
    scene.step()
    scene.step(0)
    assert given == [[2], [0]]  # and not what it chose itself
    given.clear()
    scene.take_back(1)
    assert given == [[2], [1]]  # it observes again, and gets all executed actions


def test_an_ended_dream_can_be_taken_back_and_continued():
    scene = DreamScene(DreamEnv(tiny_world(), "codes", horizon=2))
    scene.begin()
    scene.step(0)
    assert scene.step(0).ended == "truncated"
    assert not scene.take_back(1).ended
    assert scene.step(1).step == 2


def test_a_dream_continues_from_a_games_current_step():
    world = tiny_world()
    game = toy_scene()
    shown = game.begin()
    actions, frames = [], [shown.frames]
    while len(actions) < 2 and not shown.ended:
        actions.append(len(actions))
        shown = game.step(actions[-1])
        frames.append(shown.frames)
    recent = game.recent()
    assert np.array_equal(recent["frames"], np.stack(frames)) and recent["actions"].tolist() == actions
    dream = DreamScene(DreamEnv(world, "codes"))
    begun = dream.begin(recent)
    codes = world.tokenizer.encode(torch.from_numpy(shown.frames)[None, None])
    assert torch.equal(torch.from_numpy(begun.frames), world.tokenizer.decode(codes)[0, 0])


def test_steps_stay_as_they_were_shown_if_a_game_fills_the_same_array_again():
    class Reusing(ToyGame):
        def step(self, action):
            *result, info = super().step(action)
            self.mine = getattr(self, "mine", info["frames"])
            self.mine[:] = info["frames"]
            return *result, info | {"frames": self.mine}

    again, scene = Reusing(), toy_scene()
    reusing = GameScene(again, again.action_spec)
    scene.begin(), reusing.begin()
    wanted, shown = ([one.step(1).frames for _ in range(3)] for one in (scene, reusing))
    assert np.array_equal(shown, wanted) and not np.array_equal(wanted[0], wanted[2])
    assert np.array_equal(reusing.recent()["frames"], scene.recent()["frames"])


def test_only_the_last_steps_are_passed_on():
    game = GameScene(LongGame(), LongGame.action_spec)
    game.begin()
    for number in range(12):
        game.step(number % 3)
    recent = game.recent()
    assert recent["frames"].shape == (8, *FRAMES) and recent["actions"].tolist() == [n % 3 for n in range(5, 12)]
    game.begin()
    assert len(game.recent()["frames"]) == 1 and game.recent()["actions"].shape == (0,)


class LongGame(ToyGame):
    action_spec = ToyGame().action_spec

    def reset(self, **options):
        result = super().reset(**options)
        self.left = 1000
        return result


def test_a_policy_that_follows_takes_over_with_what_it_saw():
    policy = Counting()
    scene = toy_scene(policy=policy)
    scene.begin()
    scene.step(0)
    assert policy.seen == 1
    assert not scene.shown.ended
    scene.step()
    assert policy.seen == 2


class Counting(Policy):
    """Counts its observations."""

    seen = 0

    def act(self, observations):
        self.seen += 1
        return np.ones(len(observations), np.int64)


def test_a_scene_without_a_policy_needs_actions():
    scene = toy_scene()
    scene.begin()
    with pytest.raises(ValueError, match="has no policy"):
        scene.step()


def test_scripted_play_of_a_dream_is_seeded_and_knows_the_actions(world_folder):
    def returns(seed):
        scene = open_scene(str(world_folder), "sticky", seed=seed)
        scene.begin()
        assert isinstance(scene._policy, StickyPolicy) and scene._policy.action_spec.names == ("noop", "left", "right")
        return [scene.step().total for _ in range(4)]

    assert returns(3) == returns(3) != returns(4)


@pytest.mark.parametrize(
    ("name", "player", "world", "words"),
    [
        (COUNTING, "no/such/folder", None, "folder of a saved agent"),
        (COUNTING, "", "somewhere", "no player sees it through a world"),
        ("VideoGenReal-Doomm", "", None, "VideoGenReal-Doom"),
        ("doom-hg", "random", "doom-hgs", "two worlds to dream with, doom-hg and doom-hgs"),
    ],
)
def test_scenes_that_cannot_be_opened_are_refused(name, player, world, words):
    with pytest.raises((ValueError, gymnasium.error.Error), match=words):
        open_scene(name, player, world=world)


def test_an_agent_of_another_tokenizer_is_refused(agent_folder, tmp_path):
    other = tiny_world(seed=5).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="another tokenizer"):
        open_scene(str(other), agent_folder)
    with pytest.raises(ValueError, match="another tokenizer"):
        open_scene(COUNTING, agent_folder, world=other)


def test_an_agent_of_other_actions_is_refused(agent_folder):
    with pytest.raises(ValueError, match="differ in their actions"):
        open_scene("VideoGenReal-DoomBasic", agent_folder)


def test_gray_frames_are_shown_in_gray():
    game = GrayGame()
    shown = GameScene(game, game.action_spec).begin()
    assert shown.frames.shape == FRAMES and (shown.frames == shown.frames[..., :1]).all()


class GrayGame(ToyGame):
    def _look(self, native_reward):
        observation, info = super()._look(native_reward)
        return observation, info | {"frames": info["frames"][..., :1]}


def test_a_game_whose_frames_are_not_bytes_is_refused():
    class Shaded(ToyGame):
        def _look(self, native_reward):
            observation, info = super()._look(native_reward)
            return observation, info | {"frames": info["frames"] / 255}

    game = Shaded()
    with pytest.raises(ValueError, match=r'info\["frames"\] must be .* uint8 in \[0, 255\], got .* float64'):
        GameScene(game, game.action_spec).begin()


def test_a_game_without_frames_says_what_is_missing():
    class Blind(ToyGame):
        def _look(self, native_reward):
            return super()._look(native_reward)[0], {"native_reward": native_reward}

    game = Blind()
    with pytest.raises(ValueError, match=r'info\["frames"\]'):
        GameScene(game, game.action_spec).begin()
