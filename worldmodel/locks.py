"""A lock that admits one process at a time to a run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"  # stays in the folder; the system releases the lock when its process dies


@contextmanager
def only_process(folder: Path, what: str) -> Iterator[None]:
    """Reserve `folder`, which is created if needed, for this thread; reentrant.

    Raises: ValueError if another process or thread holds it.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"another {what} is running in {folder}; wait until it ends, or use another --out") from None
    try:
        yield
    finally:
        lock.release()
