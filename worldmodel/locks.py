"""One process at a time in a run's folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"  # stays in the folder; the system releases it when its process dies


@contextmanager
def only_process(folder: Path, what: str) -> Iterator[None]:
    """Keep `folder`, which is made if needed, to this thread; what runs inside may ask for it again.

    Raises: ValueError if another process or thread has it.
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
