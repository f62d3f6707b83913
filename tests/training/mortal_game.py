"""A counting game whose process dies, stops or hangs in chosen episodes; with its own engine, like ViZDoom."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym

from tests.training.counting_game import CountingGame

MORTAL_ID = "tests.training.mortal_game:MortalGame-v0"


class MortalGame(CountingGame):
    """Ends its process in the second step of the episode that begins with `seed`, the first `times` times.

    Args:
        marks: a folder: gets a file for each end, and for each engine, named after its process.
        how: "kill" or "stop" the process; "hang": the step never ends.
        engine: start a process that inherits all that it can.
    """

    def __init__(self, marks: str, seed: int = -1, times: int = 1, how: str = "kill", engine: bool = False) -> None:
        super().__init__()
        self.marks, self.seed, self.times, self.how = Path(marks), seed, times, how
        self.engine = None
        if engine:
            code = "import time; time.sleep(100)"
            self.engine = subprocess.Popen([sys.executable, "-c", code], close_fds=False)
            (self.marks / f"engine-{self.engine.pid}").touch()

    def reset(self, *, seed=None, options=None):
        self.episode = seed
        return super().reset(seed=seed, options=options)

    def step(self, action):
        ends = len(list(self.marks.glob("end-*")))
        if self.count == 1 and self.episode == self.seed and ends < self.times:
            (self.marks / f"end-{ends}-{os.getpid()}").touch()
            if self.how == "hang":
                time.sleep(1000)
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[self.how])
        return super().step(action)

    def close(self):
        if self.engine is not None:
            self.engine.kill()
            self.engine.wait()


gym.register("MortalGame-v0", entry_point=MortalGame)
