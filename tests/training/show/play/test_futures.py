"""Several futures of one dream, and the one that is chosen."""

import numpy as np
import pytest

from tests.training.show.play.test_session import Session, do, dream_scene
from worldmodel.training.show.play.futures import Futures


def begun(steps: int = 3, **options):
    scene = dream_scene(**options)
    scene.begin()
    for _ in range(steps):
        scene.step(1)
    return scene


def test_the_first_future_is_what_the_dream_would_dream_and_the_others_are_not():
    alone, forked = begun(), begun()
    futures = Futures(forked)
    for action in (0, 1, 2, 1):
        expected, drawn = alone.step(action), futures.step(action)
    assert np.array_equal(drawn[0].frames, expected.frames) and drawn[0].step == expected.step
    assert (drawn[0].total, drawn[0].nll) == pytest.approx((expected.total, expected.nll))
    assert drawn[0].signals == pytest.approx(expected.signals)
    assert len({one.nll for one in drawn}) == 4
    assert forked.shown.step == 3  # the dream itself stays where it is


@pytest.mark.parametrize("which", [0, 2])
def test_a_chosen_future_continues_and_can_be_taken_back(which):
    scene = begun()
    futures = Futures(scene)
    steps = [futures.step(action) for action in (2, 0, 1)]
    moments = futures.choose(which)
    assert [moment.shown for moment in moments] == [step[which] for step in steps]
    assert scene.shown is steps[-1][which] and scene.shown.step == 6
    goes_on = scene.step(1)
    assert scene.take_back(2).step == 5
    scene.step(1)
    again = scene.step(1)
    assert again.nll == goes_on.nll and np.array_equal(again.frames, goes_on.frames)
    assert scene.take_back(99).step == 0


def test_an_ended_future_does_not_change_and_is_kept_up_to_its_end():
    scene = begun(horizon=5)
    futures = Futures(scene)
    for _ in range(4):
        shown = futures.step(0)
    assert futures.ended and [one.step for one in shown] == [5] * 4 and shown[1].ended == "truncated"
    assert [moment.shown.step for moment in futures.choose(1)] == [4, 5]
    assert scene.take_back(1).step == 4


def test_futures_are_played_and_chosen_by_messages():
    player = Session({"dream": dream_scene})
    do(player, "step")
    words, _ = do(player, "fork")
    assert len(words["futures"]) == 4 and words["parts"] == [["frames", (8, 16, 16, 3)]]
    do(player, "temperature", value=0.5)
    words, _parts = do(player, "step", "Digit1")
    assert [one["step"] for one in words["futures"]] == [2] * 4
    kept, _ = do(player, "choose", which=3)
    assert kept["now"] == words["futures"][3] and [point[0] for point in kept["history"]] == [0, 1, 2]
    do(player, "fork")
    do(player, "step")
    assert do(player, "choose", which=-1)[0]["now"]["step"] == 2  # none of them
    do(player, "fork")
    with pytest.raises(ValueError, match="futures 0 to 3, got 4"):
        do(player, "choose", which=4)


def test_the_agent_does_not_play_futures_but_a_blind_policy_does():
    def played(who):
        player = Session({"dream": lambda: dream_scene(policy=True)})
        do(player, "drive", who=who)
        do(player, "fork")
        return [do(player, "step")[0]["futures"][0]["return"] for _ in range(6)]

    assert played("agent") == played("you") != played("random")
