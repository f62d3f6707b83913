"""One progress bar for every long job: rate, time left and a short note, on standard error."""

import sys
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

LONG = 5.0  # seconds; longer work shows a bar


class Progress:
    """Counts finished work; `note` shows a short text (a loss, a return) after the bar."""

    def __init__(self, bar: tqdm) -> None:
        self._bar = bar

    def update(self, count: int = 1) -> None:
        self._bar.update(count)

    @property
    def done(self) -> int:
        """Units counted so far, including the initial ones."""
        return self._bar.n

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
def progress(
    total: int | None, unit: str, label: str, initial: int = 0, *, silent: bool = False, delay: float = 0.0
) -> Iterator[Progress]:
    """Show a bar over `total` units of work; None: unknown, so no time left is shown.

    Args:
        initial: units that are already done.
        silent: count without showing.
        delay: seconds until the bar appears, for work that is usually short; it vanishes at the end.
    """
    # Five updates per second in a terminal; a log file gets one line every ten seconds.
    terminal = sys.stderr.isatty()
    pause = 0.2 if terminal else 10.0
    with tqdm(
        total=total,
        unit=unit,
        desc=label,
        initial=initial,
        mininterval=min(pause, delay) if delay else pause,
        dynamic_ncols=True,
        disable=silent,
        delay=delay,
        leave=not delay,
        position=None if terminal else 0,  # a file cannot move up to the line of an outer bar
    ) as bar:
        yield Progress(bar)


def progress_if_long(total: int | None, unit: str, label: str) -> AbstractContextManager[Progress]:
    """A bar that appears only if the work takes longer than `LONG` seconds, and vanishes at the end."""
    return progress(total, unit, label, delay=LONG)


def stepwise(items: Collection[Item], unit: str, label: str) -> Iterator[Item]:
    """Iterate over the items, with a bar if that takes long (`progress_if_long`)."""
    with progress_if_long(len(items), unit, label) as bar:
        for item in items:
            yield item
            bar.update()
