"""Checkpoint folders on the Hugging Face hub: fetch one and verify its checksums, upload one, and say what failed."""

import os
import re
from pathlib import Path

from worldmodel.checksums import COVERED, NAME, check_sums
from worldmodel.errors import first_line

FILES = [*COVERED, NAME, "README.md"]  # nothing else is transferred
_ID = r"[\w.-]+/[\w.-]+"
_LOG_IN = "log in with `hf auth login`, set HF_TOKEN or give token="


def split_id(name: str) -> tuple[str, str | None] | None:
    """Repository and revision of "OWNER/NAME" or "OWNER/NAME@REVISION"; None if `name` has neither form."""
    found = re.fullmatch(rf"({_ID})(?:@([\w./-]+))?", name)
    return None if found is None else (found[1], found[2])


def fetch(
    repository: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    local_files_only: bool = False,
) -> Path:
    """Folder of a model of the hub, downloaded unless cached; its files are verified against its SHA256SUMS.

    Args:
        repository: OWNER/NAME.
        revision: branch, tag or commit; None: the newest commit of `main`.
        token: overrides that of `hf auth login` or HF_TOKEN; False sends none.
        cache_dir: overrides the hub's own cache (HF_HUB_CACHE).
        local_files_only: do not contact the hub.

    Raises:
        FileNotFoundError: the hub has no such model or revision, or it is not cached and the hub may not be contacted.
        PermissionError: the hub refuses the token or access to the model.
        ConnectionError: the hub cannot be reached, and the model is not cached.
        ValueError: the files differ from the model's SHA256SUMS, or are not listed there.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(
                repository,
                revision=revision,
                token=token,
                cache_dir=None if cache_dir is None else Path(cache_dir),
                local_files_only=local_files_only,
                allow_patterns=FILES,
            )
        )
    except _failures() as error:
        if getattr(error, "errno", None) is not None:
            raise  # a local failure, such as a full disk
        raise _fetching_failed(error, repository, revision, cache_dir, local_files_only) from error
    try:
        verified = check_sums(folder)
    except ValueError as error:
        raise ValueError(f"{repository} of the hub: {error}. To fetch it again, delete {folder.parents[1]}") from error
    if unlisted := [name for name in COVERED if (folder / name).is_file() and name not in verified]:
        raise ValueError(
            f"{repository} of the hub cannot be verified: its {NAME} does not list {', '.join(unlisted)}. Its owner "
            "can save it again with this release (save_pretrained, publish) and upload that"
        )
    return folder


def upload(
    folder: str | os.PathLike,
    repository: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    commit_message: str | None = None,
    revision: str | None = None,
) -> str:
    """Upload a checkpoint folder to the hub as one commit, and return the commit's URL.

    Files of an earlier checkpoint there that this one lacks are deleted.

    Args:
        folder: written by `save_pretrained` or `publish`.
        repository: OWNER/NAME; created if missing.
        private: whether a new repository is private; None for the owner's default, which is public for most.
        token: overrides that of `hf auth login` or HF_TOKEN; needs write access.
        commit_message: of the commit.
        revision: branch, created from `main` if missing.

    Raises:
        ValueError: not a name of the form OWNER/NAME, or files that differ from the folder's SHA256SUMS.
        PermissionError: no token, or the hub refuses it.
        ConnectionError: the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    folder = Path(folder)
    _check_id(repository)
    check_sums(folder)
    api = HfApi(token=token)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            revision=revision,
            commit_message=commit_message or f"Upload {folder.resolve().name} with VideoGenDream",
            allow_patterns=FILES,
            delete_patterns=FILES,
        )
    except _failures() as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise _uploading_failed(error, repository) from error
    return commit.commit_url


def check_upload(repository: str, *, token: str | None = None) -> None:
    """Refuse, before long work, what `upload` would refuse after it: a wrong name, and a token that cannot write.

    A fine-grained token may still lack access to this owner's models, which only `upload` finds out.

    Raises: as `upload`.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalTokenNotFoundError

    _check_id(repository)
    try:
        me = HfApi(token=token).whoami()
    except LocalTokenNotFoundError as error:
        raise PermissionError(f"there is no token to upload {repository} with: {_LOG_IN}") from error
    except _failures() as error:
        raise _uploading_failed(error, repository) from error
    if me.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise PermissionError(
            f"the token of {me.get('name')} may only read, and {repository} is to be written: {_LOG_IN}"
        )


def _check_id(repository: str) -> None:
    if not re.fullmatch(_ID, repository):
        raise ValueError(f"models of the hub have names of the form OWNER/NAME, got {repository!r}")


def _failures() -> tuple[type[Exception], ...]:
    """OSError and the errors of the HTTP client (httpx or httpx2, depending on the version of huggingface_hub)."""
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError.__bases__  # type: ignore[return-value]


def _fetching_failed(
    error: Exception, repository: str, revision: str | None, cache_dir: str | os.PathLike | None, local_only: bool
) -> OSError:
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    at = "" if revision is None else f" at revision {revision!r}"
    cached = f"{repository}{at} is not complete in {cache_dir or constants.HF_HUB_CACHE}"
    if isinstance(error, GatedRepoError):
        return PermissionError(f"access to {repository} on the hub is restricted: request it on the model's page")
    if isinstance(error, RepositoryNotFoundError):
        return FileNotFoundError(
            f"the hub has no model {repository!r}, or it is private: check the spelling, or {_LOG_IN}"
        )
    if isinstance(error, RevisionNotFoundError):
        return FileNotFoundError(f"{repository} of the hub has no branch, tag or commit {revision!r}")
    if _status(error) in (401, 403):
        return PermissionError(_refused(error, repository))
    if local_only:
        return FileNotFoundError(f"{cached}, and local_files_only forbids downloading it")
    if constants.is_offline_mode():
        return FileNotFoundError(f"{cached}, and HF_HUB_OFFLINE forbids downloading it: set HF_HUB_OFFLINE=0")
    return ConnectionError(
        f"the hub ({constants.ENDPOINT}) cannot be reached ({_cause(error)}), and {cached}: check the network"
    )


def _uploading_failed(error: Exception, repository: str) -> OSError:
    from huggingface_hub import constants
    from huggingface_hub.errors import RepositoryNotFoundError

    if isinstance(error, RepositoryNotFoundError) or _status(error) in (401, 403):
        return PermissionError(_refused(error, repository))
    if constants.is_offline_mode():
        return ConnectionError(f"{repository} cannot be uploaded while HF_HUB_OFFLINE is set: set HF_HUB_OFFLINE=0")
    if _status(error) is None:
        return ConnectionError(f"the hub ({constants.ENDPOINT}) cannot be reached ({_cause(error)}): check the network")
    return OSError(f"the hub rejected {repository}: {_cause(error)}")


def _refused(error: Exception, repository: str) -> str:
    return (
        f"the hub refuses the token for {repository} ({_status(error)}): {_LOG_IN}; to upload, it needs write access "
        "to the owner's models"
    )


def _status(error: Exception) -> int | None:
    """HTTP status of the hub's response; None without one."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _cause(error: Exception) -> str:
    """The first line of an error's cause."""
    error = error.__cause__ if isinstance(error.__cause__, Exception) else error
    return f"{type(error).__name__}: {first_line(error)}"
