from dataclasses import replace

import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded

from tests.tiny import tiny_world
from tests.vector_contract import check_vector_env
from worldmodel.envs.dream.mixed import MixedDreams, check_alike, divided
from worldmodel.envs.dream.rules import DreamRules
from worldmodel.envs.dream.vector_env import DreamVectorEnv


def sister(world, seed=1, **config):
    """Another world with the same tokenizer."""
    other = tiny_world(seed, **config)
    other.tokenizer.load_state_dict(world.tokenizer.state_dict())
    return other


def dreams(world, rows, **options):
    return DreamVectorEnv(rows, world, **({"obs": "features", "horizon": 3} | options))


def test_mixed_dreams_keep_the_vector_contract():
    world = tiny_world()
    check_vector_env(MixedDreams([dreams(world, 2), dreams(sister(world), 3)]))


def test_a_row_dreams_what_it_dreams_in_its_own_env():
    world = tiny_world()
    worlds = world, sister(world)
    mixed = MixedDreams([dreams(each, 2) for each in worlds])
    actions = np.random.default_rng(0).integers(3, size=(8, 4))
    seen = [mixed.reset(seed=[5, 6, 7, 8])[0]] + [mixed.step(each) for each in actions]
    compared = set()
    for number, each in enumerate(worlds):
        rows, alone = slice(2 * number, 2 * number + 2), dreams(each, 2)
        np.testing.assert_array_equal(alone.reset(seed=5 + 2 * number)[0], seen[0][rows])
        for step, given in zip(seen[1:], actions, strict=True):
            own = alone.step(given[rows])
            for entry in range(4):
                np.testing.assert_array_equal(own[entry], step[entry][rows])
            for name, value in own[4].items():
                if not isinstance(value, dict) and value.dtype != object:
                    np.testing.assert_array_equal(value, step[4][name][rows], name)
                    compared.add(name)
    assert {"nll", "HEALTH", "_final_info"} <= compared
    assert (seen[0][:2] != seen[0][2:]).any()


def test_infos_that_one_world_lacks_are_masked():
    world = tiny_world()
    other = sister(world)
    other.config = replace(other.config, signal_names=("ARMOR",))
    mixed = MixedDreams([dreams(world, 1), dreams(other, 2)])
    for infos in (mixed.reset(seed=0)[1], mixed.step(np.zeros(3, np.int64))[4]):
        assert infos["_HEALTH"].tolist() == [True, False, False] and infos["HEALTH"][1:].tolist() == [0, 0]
        assert infos["_ARMOR"].tolist() == [False, True, True]


def test_only_the_rows_of_a_mask_are_reset():
    world = tiny_world()
    mixed = MixedDreams([dreams(world, 2), dreams(sister(world), 2)])
    mixed.reset(seed=0)
    before = mixed.step(np.zeros(4, np.int64))[0]
    mask = np.array([False, False, False, True])
    observations, infos = mixed.reset(options={"reset_mask": mask})
    assert infos["_HEALTH"].tolist() == mask.tolist()
    np.testing.assert_array_equal(observations[:3], before[:3])
    assert (observations[3] != before[3]).any()
    with pytest.raises(ValueError, match="only reset option of mixed dreams is 'reset_mask', got 'from'"):
        mixed.reset(options={"from": "starts"})


def test_nothing_is_dreamt_before_all_is_valid():
    worlds = [tiny_world(), tiny_world()]
    mixed, same = (MixedDreams([DreamVectorEnv(1, world) for world in worlds]) for _ in range(2))
    with pytest.raises(ResetNeeded, match="before a reset of some rows"):
        mixed.reset(seed=0, options={"reset_mask": np.array([True, False])})
    with pytest.raises(ResetNeeded, match=r"Call reset\(\) before step"):
        mixed.step(np.zeros(2, np.int64))
    mixed.reset(seed=0), same.reset(seed=0)
    for bad in ([0, 99], [0], [0.5, 0.5]):  # the first world's action is fine
        with pytest.raises(InvalidAction, match="actions must be integers in"):
            mixed.step(np.array(bad))
    np.testing.assert_array_equal(mixed.step(np.ones(2, np.int64))[0], same.step(np.ones(2, np.int64))[0])


def test_the_rules_of_all_worlds_are_set_together():
    world = tiny_world()
    mixed = MixedDreams([dreams(world, 1), dreams(sister(world), 1)])
    mixed.rules = replace(mixed.rules, horizon=1)
    mixed.reset(seed=0)
    assert mixed.step(np.zeros(2, np.int64))[3].all()
    assert mixed.rules == DreamRules(horizon=1)


def test_worlds_that_do_not_suit_the_same_agent_are_refused():
    world = tiny_world()
    check_alike(world, sister(world), "features", "a", "b")
    check_alike(world, sister(world, width=32), "latent", "a", "b")
    with pytest.raises(ValueError, match=r"dynamics of a have width 16, those of b 32: .* obs=\"latent\""):
        check_alike(world, sister(world, width=32), "features", "a", "b")
    with pytest.raises(ValueError, match="b has another tokenizer than a"):
        check_alike(world, tiny_world(1), "latent", "a", "b")
    other = sister(world)
    other.config = replace(other.config, action=replace(other.config.action, names=("noop", "up", "down")))
    with pytest.raises(ValueError, match=r"b and a differ in their actions: one of 3 actions \(noop, up, down\),"):
        check_alike(world, other, "latent", "a", "b")
    with pytest.raises(ValueError, match="another tokenizer"):
        MixedDreams([dreams(world, 1), dreams(tiny_world(1), 1)])


def test_dreams_with_different_rules_or_modes_are_not_mixed():
    world = tiny_world()
    with pytest.raises(ValueError, match="need the same obs and rules; number 1 differs from the first"):
        MixedDreams([dreams(world, 1), dreams(world, 1, horizon=4)])
    with pytest.raises(ValueError, match="autoreset_mode 'same_step'"):
        MixedDreams([dreams(world, 1, autoreset_mode="disabled")])
    with pytest.raises(ValueError, match="no dream to mix"):
        MixedDreams([])


def test_rows_are_divided_evenly():
    assert divided(64, 3) == [22, 21, 21] and divided(4, 1) == [4]
    with pytest.raises(ValueError, match="3 worlds need at least as many rows, got 2"):
        divided(2, 3)


def test_rendering_returns_the_frames_of_all_worlds():
    world = tiny_world()
    mixed = MixedDreams([dreams(world, 1, render_mode="rgb_array"), dreams(world, 2, render_mode="rgb_array")])
    mixed.reset(seed=0)
    assert [frame.shape for frame in mixed.render()] == [(16, 16, 3)] * 3
    mixed.close()
    assert all(part.closed for part in mixed.parts)
