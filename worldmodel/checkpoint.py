"""The checkpoint folder: config.json, model.safetensors, starts.safetensors, their sums and a card.

Refuses what it cannot read.

World models, tokenizers and agents are saved the same way; `kind` in config.json says which it is. No pickle.
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
# Options that the config.json of older checkpoints leaves out, the shipped worlds among them, as they were then.
LATER_OPTIONS: dict[str, dict[str, Any]] = {
    "world_model": {
        "tokenizer": {"net": "vqvae"},
        "dynamics": {"net": "gpt"},
        "heads": {"read_signals": False},
    },
    "tokenizer": {"net": "vqvae"},
    "agent": {"training": {"previous_action": False, "durations": []}, "meta": {"reward": "world", "more_worlds": []}},
}
_PRETRAINED = Path(__file__).resolve().parent / "pretrained"
_Config = TypeVar("_Config")


class NotDownloadedError(FileNotFoundError):
    """A file names a model of the hub, which is fetched only if the user names it."""


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
    """Folder of a checkpoint: of a shipped name, a path, or a model of the Hugging Face hub, "OWNER/NAME[@REVISION]".

    The folder of a training's run, or of a demo's or a loop's round, stands for the best checkpoint in it. Names that
    were read from a file are resolved with `fetch=False`: of the hub's models they may mean only those already here.
    The other arguments are those of `hub.fetch`; a `revision` is refused where `name` is not the hub's.
    """
    if str(name) in shipped():
        return _here(_PRETRAINED / str(name), revision)
    path = Path(name)
    inside = (path, path / "best", path / "dynamics" / "best")
    for place in inside:
        finish_replacing(place)
    if path.is_dir():
        return _here(next((folder for folder in inside if (folder / "model.safetensors").is_file()), path), revision)
    looks_local = path.is_absolute() or str(name).startswith((".", "~")) or path.parts[0] in ("runs", "checkpoints")
    hub_id = hub.split_id(str(name))
    if hub_id is not None and not looks_local and not path.parent.exists():
        if None not in (hub_id[1], revision):
            raise ValueError(f"{name} names a revision already; leave out revision={revision!r}")
        repository, revision = hub_id[0], revision or hub_id[1]
        only_here = local_files_only or not fetch
        try:
            return hub.fetch(
                repository, revision=revision, token=token, cache_dir=cache_dir, local_files_only=only_here
            )
        except OSError as error:
            if not fetch:
                raise NotDownloadedError(
                    f"{name} would be a model on the Hugging Face hub, named in a file and not downloaded here. If you "
                    f"trust it, download it first: videogen-dream inspect {name}"
                ) from error
            raise type(error)(
                f"no folder {str(name)!r} here, and {error}.{did_you_mean(str(name), shipped())}"
            ) from error
    raise FileNotFoundError(
        f"no checkpoint {str(name)!r}: neither shipped nor a folder.{did_you_mean(str(name), shipped())}"
    )


def _here(folder: Path, revision: str | None) -> Path:
    """`folder`, unless a revision is wanted, which only models of the hub have."""
    if revision is not None:
        raise ValueError(f"revision={revision!r} is for models of the Hugging Face hub, and {folder} is a folder here")
    return folder


def agent_folder(folder: str | os.PathLike) -> Path:
    """Folder of a saved agent, for which that of its training's run stands too."""
    path = Path(folder)
    inside = (path, path / "agent")
    for place in inside:
        finish_replacing(place)
    return next((place for place in inside if (place / "model.safetensors").is_file()), path)


def save(
    folder: str | os.PathLike,
    kind: str,
    config: Any,
    modules: Mapping[str, nn.Module],
    *,
    starts: Mapping[str, Tensor] | None = None,
    card: str = "",
) -> Path:
    """Write a checkpoint folder, whole or not at all.

    Args:
        folder: new, empty, or a checkpoint of the same kind, which is replaced with all that is in its folder.
        kind: "world_model", "tokenizer" or "agent".
        config: a dataclass.
        modules: prefix -> module; their state goes to model.safetensors as "prefix.name".
        starts: encoded start segments, if the checkpoint is to be dreamt from without a data set.
        card: text of README.md.

    Raises:
        FileExistsError, NotADirectoryError: there is something else; nothing is touched.
        PermissionError: the folder or a file in it is read-only.
        OSError: it could not be written; what was there before still is.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    finish_replacing(folder)
    _check_replaceable(folder, kind)
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
    """A name (SHA-256) of the weights that a checkpoint folder holds: other weights, other name."""
    return file_sum(Path(folder) / "model.safetensors")


def _check_replaceable(folder: Path, kind: str) -> None:
    """FileExistsError if `folder` holds anything but a checkpoint of this kind."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder, and {_a(kind)} is saved as one; choose another name")
    config = folder / "config.json"
    about = read_json(config) if config.is_file() else None
    if not isinstance(about, dict) or "format_version" not in about or about.get("kind") != kind:
        raise FileExistsError(
            f"{folder} holds something else than {_a(kind)}, and saving would delete it. "
            "Choose another folder, or empty this one"
        )


def kind_in(folder: Path) -> str | None:
    """Kind of the checkpoint in a folder; None if there is none."""
    about = read_json(folder / "config.json") if (folder / "config.json").is_file() else None
    return about.get("kind") if isinstance(about, dict) else None


def _a(kind: Any) -> str:
    """A kind of checkpoint in words: "a world model"."""
    words = str(kind).replace("_", " ")
    return f"{'an' if words[:1] in tuple('aeiou') else 'a'} {words}"


def load_config(folder: Path, kind: str, config_class: type[_Config], part: str | None = None) -> _Config:
    """Read config.json strictly: another version or kind, unknown or repeated keys and bad values are refused.

    An option missing from an older checkpoint gets the value it had then, not the current default.

    Args:
        part: read only the part of this name, which holds a `config_class`: "tokenizer" of a world model.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no config.json, so it is no checkpoint folder of VideoGenDream")
    data = read_json(folder / "config.json", JsonObject, finite=True)
    version, found = data.pop("format_version", None), data.pop("kind", None)
    if version is None:
        places = [folder / name for name in ("best", "last", "agent", "agent/agent", "dynamics/best")]
        inside = [str(place) for place in places if kind_in(place) == kind]
        raise ValueError(
            f"{folder} is no checkpoint folder of VideoGenDream (its config.json names no format)"
            + (f", but a run that holds some: give {' or '.join(inside)}" if inside else "")
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


def is_there(name: str | os.PathLike) -> bool:
    """Whether a checkpoint's name stands for a folder here, which has another absolute path than the name says."""
    return str(name) not in shipped() and Path(name).exists()
