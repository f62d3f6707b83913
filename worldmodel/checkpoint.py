"""The checkpoint folder: config.json, model.safetensors, starts.safetensors, their checksums and a card.

World models, tokenizers and agents are saved the same way; `kind` in config.json says which it is. Reading is strict,
and there is no pickle.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from worldmodel import hub
from worldmodel.checksums import file_sum, write_sums
from worldmodel.errors import did_you_mean
from worldmodel.files import JsonObject, naming_failures, read_json, write_json
from worldmodel.replacing import finish_replacing, replacing
from worldmodel.settings import from_json

FORMAT_VERSION = 1
# Options missing in the config.json of older checkpoints, including shipped worlds, with the values they had then.
LATER_OPTIONS: dict[str, dict[str, Any]] = {
    "world_model": {
        "tokenizer": {"net": "vqvae"},
        "dynamics": {"net": "gpt"},
        "heads": {"read_signals": False},
    },
    "tokenizer": {"net": "vqvae"},
    "agent": {"training": {"previous_action": False, "durations": []}, "meta": {"reward": "world", "more_worlds": []}},
}
_UNFINISHED = ", but a run folder whose training has saved no checkpoint yet: run its command again to resume it"
_PRETRAINED = Path(__file__).resolve().parent / "pretrained"
_Config = TypeVar("_Config")


class NotDownloadedError(FileNotFoundError):
    """A file names a model of the hub, which is downloaded only if the user names it."""


def shipped() -> list[str]:
    """Names of the checkpoints inside the package."""
    return sorted(path.parent.name for path in _PRETRAINED.glob("*/config.json"))


def resolve(
    name: str | os.PathLike,
    *,
    fetch: bool = True,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    local_files_only: bool = False,
) -> Path:
    """Folder of a checkpoint, given a shipped name, a path, or a model of the hub, "OWNER/NAME[@REVISION]".

    A run folder, or the folder of a demo's or loop's round, stands for the best checkpoint in it. Names read from a
    file are resolved with `fetch=False`, which accepts only hub models that are already downloaded. The other arguments
    are those of `hub.fetch`; `revision` is refused unless `name` is on the hub.
    """
    if str(name) in shipped():
        return _here(_PRETRAINED / str(name), revision)
    path = Path(name)
    inside = (path, path / "best", path / "dynamics" / "best")
    for folder in inside:
        finish_replacing(folder)
    if path.is_dir():
        return _here(next((folder for folder in inside if (folder / "model.safetensors").is_file()), path), revision)
    looks_local = path.is_absolute() or str(name).startswith((".", "~")) or path.parts[0] in ("runs", "checkpoints")
    hub_id = hub.split_id(str(name))
    if hub_id is not None and not looks_local and not path.parent.exists():
        if None not in (hub_id[1], revision):
            raise ValueError(f"{name} already contains a revision; omit revision={revision!r}")
        repository, revision = hub_id[0], revision or hub_id[1]
        only_here = local_files_only or not fetch
        try:
            return hub.fetch(
                repository, revision=revision, token=token, cache_dir=cache_dir, local_files_only=only_here
            )
        except OSError as error:
            if not fetch:
                raise NotDownloadedError(
                    f"{name}, named in a file, would be a model on the Hugging Face hub that is not downloaded yet. If "
                    f"you trust it, download it first: videogen-dream inspect {name}"
                ) from error
            raise type(error)(
                f"no folder {str(name)!r} here, and {error}.{did_you_mean(str(name), shipped())}"
            ) from error
    raise FileNotFoundError(
        f"no checkpoint {str(name)!r}: neither shipped nor a folder.{did_you_mean(str(name), shipped())}"
    )


def lasting_name(name: str | os.PathLike) -> str:
    """A name under which a checkpoint is found again from other working folders: shipped, of the hub, or absolute."""
    local = str(name) not in shipped() and Path(name).is_dir()
    return str(resolve(name).resolve()) if local else str(name)


def _here(folder: Path, revision: str | None) -> Path:
    """`folder`; ValueError if a revision was requested, which only models of the hub have."""
    if revision is not None:
        raise ValueError(f"revision={revision!r} is for models of the Hugging Face hub, but {folder} is a local folder")
    return folder


def agent_folder(folder: str | os.PathLike) -> Path:
    """Folder of a saved agent, given that folder or its run folder."""
    path = Path(folder)
    candidates = (path, path / "agent")
    for candidate in candidates:
        finish_replacing(candidate)
    return next((candidate for candidate in candidates if (candidate / "model.safetensors").is_file()), path)


def save(
    folder: str | os.PathLike,
    kind: str,
    config: Any,
    modules: Mapping[str, nn.Module],
    *,
    starts: Mapping[str, Tensor] | None = None,
    card: str = "",
) -> Path:
    """Write a checkpoint folder atomically.

    Args:
        folder: new, empty, or a checkpoint of the same kind, which is replaced together with everything in its folder.
        kind: "world_model", "tokenizer" or "agent".
        config: a dataclass.
        modules: prefix -> module; their state goes to model.safetensors as "prefix.name".
        starts: encoded start segments, from which the model can dream without a data set.
        card: text of README.md.

    Raises:
        FileExistsError, NotADirectoryError: `folder` is something else; nothing is changed.
        PermissionError: the folder or a file in it is read-only.
        OSError: it could not be written; the previous contents are kept.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    finish_replacing(folder)
    check_replaceable(folder, kind)
    with naming_failures(folder), replacing(folder) as temporary:
        save_file(
            {
                f"{prefix}.{name}": tensor.detach().cpu().contiguous()
                for prefix, module in modules.items()
                for name, tensor in module.state_dict().items()
            },
            temporary / "model.safetensors",
        )
        if starts is not None:
            save_file({name: t.cpu().contiguous() for name, t in starts.items()}, temporary / "starts.safetensors")
        (temporary / "README.md").write_text(card, encoding="utf-8")
        write_json(
            temporary / "config.json", {"format_version": FORMAT_VERSION, "kind": kind} | dataclasses.asdict(config)
        )
        write_sums(temporary)
    return folder


def weights_name(folder: str | os.PathLike) -> str:
    """SHA-256 of the weights in a checkpoint folder."""
    return file_sum(Path(folder) / "model.safetensors")


def check_replaceable(folder: Path, kind: str) -> None:
    """FileExistsError if `folder` holds anything but a checkpoint of this kind, or is a repository of git."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder, but {_a(kind)} is saved as one; choose another name")
    config = folder / "config.json"
    about = read_json(config) if config.is_file() else None
    if not isinstance(about, dict) or "format_version" not in about or about.get("kind") != kind:
        raise FileExistsError(
            f"{folder} holds something other than {_a(kind)}, which saving would delete. "
            "Choose another folder, or empty this one"
        )
    if (folder / ".git").exists():
        raise FileExistsError(
            f"{folder} is a repository of git, which saving would delete with the checkpoint in it. Save to another "
            "folder, and copy the files from there"
        )


def kind_in(folder: Path) -> str | None:
    """Kind of the checkpoint in a folder; None if it holds none."""
    about = read_json(folder / "config.json") if (folder / "config.json").is_file() else None
    return about.get("kind") if isinstance(about, dict) else None


def _a(kind: Any) -> str:
    """A kind of checkpoint with its article: "a world model"."""
    words = str(kind).replace("_", " ")
    return f"{'an' if words[:1] in tuple('aeiou') else 'a'} {words}"


def load_config(folder: Path, kind: str, config_class: type[_Config], part: str | None = None) -> _Config:
    """Read config.json strictly: another version or kind, unknown or repeated keys and bad values are refused.

    An option missing from an older checkpoint gets the value it had then, not the current default.

    Args:
        part: read only this part, a `config_class`, such as "tokenizer" of a world model.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(_nothing_in(folder, kind))
    data = read_json(folder / "config.json", JsonObject, finite=True)
    version, found = data.pop("format_version", None), data.pop("kind", None)
    if version is None:
        candidates = [folder / name for name in ("best", "last", "agent", "agent/agent", "dynamics/best")]
        inside = [str(candidate) for candidate in candidates if kind_in(candidate) == kind]
        raise ValueError(
            f"{folder} is not a checkpoint folder of VideoGenDream (its config.json names no format)"
            + (f", but a run folder with checkpoints: give {' or '.join(inside)}" if inside else "")
            + (_UNFINISHED if not inside and (folder / "metrics.jsonl").is_file() else "")
        )
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{folder} has checkpoint format version {version!r}; this release reads {FORMAT_VERSION}. "
            "Install the release that wrote it, or train again"
        )
    if found != kind:
        raise ValueError(f"{folder} holds {_a(found)}, wanted {_a(kind)}")
    for name, value in LATER_OPTIONS.get(kind, {}).items():
        if not isinstance(value, dict):
            data.setdefault(name, value)
        elif isinstance(data.get(name), dict):
            data[name] = value | data[name]
    try:
        return from_json(config_class, data if part is None else data.get(part))
    except ValueError as error:
        where = f"{part}: " if part else ""
        raise ValueError(f"{folder / 'config.json'} does not fit this release: {where}{error}") from error


def _nothing_in(folder: Path, kind: str) -> str:
    """Why a folder without config.json is not a checkpoint, in words."""
    if not folder.is_dir():
        return f"there is no folder {folder}, wanted {_a(kind)}"
    if (folder / "data" / "metadata.json").is_file():
        return f"{folder} is a store of recorded play, wanted {_a(kind)}"
    return f"{folder} has no config.json, so it is not a checkpoint folder of VideoGenDream"


def is_there(name: str | os.PathLike) -> bool:
    """Whether a checkpoint's name is a path here, which has to be made absolute, rather than a shipped or hub name."""
    return str(name) not in shipped() and Path(name).exists()
