"""The folder of a training, which holds nothing else and is used by one process at a time."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from worldmodel.files import read_json
from worldmodel.leftovers import is_temporary, remove_leftovers
from worldmodel.locks import LOCK, only_process
from worldmodel.replacing import finish_replacing
from worldmodel.training import distributed

_CODES = "codes.safetensors"  # may be put there before the training


@contextmanager
def own_folder(folder: Path, command: str) -> Iterator[None]:
    """Lock a run folder for a training; what a killed one left unfinished in it is finished or removed.

    Args:
        folder: new, empty, or of an earlier run of the same command.
        command: as in the run's config.json.

    Raises:
        ValueError, NotADirectoryError: it holds something else, or another training is running in it. Nothing is
            written then, in any of the processes that train together.
    """
    with ExitStack() as held:

        def claim() -> Exception | None:
            try:
                _check_ours(folder, command)
                held.enter_context(only_process(folder, "training"))
            except (ValueError, OSError) as error:
                return error
            for name in ("best", "last"):
                finish_replacing(folder / name, alone=True)
            remove_leftovers(folder, alone=True)
            return None

        if error := distributed.first(claim):
            raise error
        yield


def _check_ours(folder: Path, command: str) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder, and a training needs one; use another --out")
    names = {path.name for path in folder.iterdir() if not is_temporary(path.name)}
    if names <= {LOCK, _CODES}:
        return
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else None
    if isinstance(config, dict) and isinstance(config.get("loop"), dict) and config.get("command", "") == command:
        return
    raise ValueError(
        f"{folder} holds something other than a run of {command or 'this training'}, which a training would overwrite; "
        "use another --out, or delete the folder yourself"
    )
