"""Which worker plays which episode, with a crew that follows a script."""

import pytest

from worldmodel.errors import OutsideError
from worldmodel.training.collect.crew import ATTEMPTS, episodes_of
from worldmodel.training.collect.workers import Lost, Played, Started

DIES, HANGS = Lost("it died"), None


class ScriptedCrew:
    """Does with each episode what its script says, then plays it; workers start at once, or as scripted."""

    def __init__(self, script=None, starts=()) -> None:
        self.script = {episode: list(fates) for episode, fates in (script or {}).items()}
        self.starts = list(starts)
        self.waiting, self.given, self.ended, self.number, self.closed = [], [], [], 0, False

    def start(self):
        self.number += 1
        fate = self.starts.pop(0) if self.starts else Started()
        if fate is not HANGS:
            self.waiting.append((self.number, fate))
        return self.number

    def give(self, worker, episode_id):
        self.given.append((worker, episode_id))
        fates = self.script.get(episode_id)
        fate = fates.pop(0) if fates else Played(episode_id, 5, 0.0)
        if fate is not HANGS:
            self.waiting.append((worker, fate))

    def news(self, seconds):
        found, self.waiting = self.waiting, []
        return found

    def end(self, worker):
        self.ended.append(worker)

    def close(self):
        self.closed = True


def played(crew, workers=2, count=4, seconds=60.0):
    """The episodes in the order in which they are stored, and the messages about losses."""
    ids, said = iter(range(count)), []
    episodes = [each.episode_id for each in episodes_of(crew, workers, lambda: next(ids, None), seconds, said.append)]
    assert crew.closed
    return episodes, said


def test_every_episode_is_played_once():
    crew = ScriptedCrew()
    assert sorted(played(crew)[0]) == [0, 1, 2, 3]
    assert crew.ended == [] and crew.number == 2


def test_a_lost_workers_episode_is_played_again_by_the_next_free_worker():
    crew = ScriptedCrew({1: [DIES]})
    episodes, said = played(crew)
    assert sorted(episodes) == [0, 1, 2, 3]
    assert said == ["a collection worker was lost: it died; playing episode 1 again"]
    assert len(crew.ended) == 1 and crew.number == 3
    assert [episode for _, episode in crew.given].count(1) == 2


def test_a_worker_that_is_late_is_ended_and_replaced():
    crew = ScriptedCrew({1: [HANGS]})
    episodes, said = played(crew, seconds=0.05)
    assert sorted(episodes) == [0, 1, 2, 3]
    assert said == ["a collection worker was lost: not finished within 0.05 s; playing episode 1 again"]


def test_a_worker_that_never_starts_is_replaced():
    crew = ScriptedCrew(starts=[HANGS, Started()])
    assert sorted(played(crew, seconds=0.05)[0]) == [0, 1, 2, 3]


def test_an_episode_has_three_attempts():
    crew = ScriptedCrew({1: [DIES] * ATTEMPTS})
    with pytest.raises(
        OutsideError, match="episode 1 was started 3 times, and its worker was lost each time; the last"
    ):
        played(crew)
    assert crew.closed


def test_losses_of_other_episodes_do_not_add_up():
    crew = ScriptedCrew({episode: [DIES] * (ATTEMPTS - 1) for episode in range(4)})
    assert sorted(played(crew)[0]) == [0, 1, 2, 3]


def test_workers_that_cannot_start_end_in_an_error_after_three_attempts_each():
    crew = ScriptedCrew(starts=[DIES] * 100)
    with pytest.raises(
        OutsideError,
        match=r"6 workers were lost without playing; the last one: it died\. A script .* needs `if __name__",
    ):
        played(crew)
    assert crew.number == 7  # the two of the beginning, and one for each loss but the last


def test_an_idle_worker_that_dies_is_replaced(monkeypatch):
    crew = ScriptedCrew()
    give = crew.give

    def give_while_the_other_dies(worker, episode_id):
        crew.waiting.append((3 - worker, DIES))
        give(worker, episode_id)

    monkeypatch.setattr(crew, "give", give_while_the_other_dies)
    assert played(crew, count=1) == ([0], ["a collection worker was lost: it died; starting another one"])
    assert crew.ended == [1] and crew.number == 3
