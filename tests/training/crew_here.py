"""A crew without processes: one worker, which plays in the process of the test."""

from worldmodel.data import EpisodeStorage
from worldmodel.training.collect.workers import Job, News, Played, Player, Started


class CrewHere:
    def __init__(self, job: Job) -> None:
        self.player, self.store = Player(job), EpisodeStorage.open(job.out)
        self.waiting: list[tuple[int, News]] = []

    def start(self) -> int:
        self.waiting.append((0, Started()))
        return 0

    def give(self, worker: int, episode_id: int) -> None:
        episode, native_return = self.player.play(episode_id)
        self.store.write_pending(episode, episode_id)
        self.waiting.append((worker, Played(episode_id, episode.num_steps, native_return)))

    def news(self, seconds: float) -> list[tuple[int, News]]:
        return [self.waiting.pop(0)]

    def end(self, worker: int) -> None:
        raise AssertionError("nothing is lost here")

    def close(self) -> None:
        self.player.env.close()
