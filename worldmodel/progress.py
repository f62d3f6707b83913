"""One progress bar for every long job: rate, time left and a short note, on standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


class Progress:
    """Counts work done; `note` puts a few words (a loss, a return) behind the bar."""

    def __init__(self, bar: tqdm) -> None:
        self._bar = bar

    def update(self, count: int = 1) -> None:
        self._bar.update(count)

    @property
    def rate(self) -> float:
        """Units per second of this run."""
        return (self._bar.n - self._bar.initial) / max(self._bar.format_dict["elapsed"], 1e-9)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        tqdm.write(text, file=sys.stderr)

    def note(self, text: str) -> None:
        self._bar.set_postfix_str(text, refresh=False)


@contextmanager
def progress(total: int, unit: str, label: str, initial: int = 0, *, silent: bool = False) -> Iterator[Progress]:
    """Show a bar over `total` units of work, `initial` of them already done; `silent` counts without showing."""
    # Five times a second for a person watching; a log file gets one line every ten seconds.
    pause = 0.2 if sys.stderr.isatty() else 10.0
    with tqdm(
        total=total, unit=unit, desc=label, initial=initial, mininterval=pause, dynamic_ncols=True, disable=silent
    ) as bar:
        yield Progress(bar)
