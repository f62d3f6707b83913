"""Commands that bring play from elsewhere into a store, and back, and look at it; see making_commands.py."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import tyro

Function = Callable[..., Any]


def run_import_bair(
    path: tyro.conf.Positional[Path],
    out: Path,
    camera: Literal["aux1", "main", "both"] = "aux1",
    limit: int | None = None,
    frames_per_step: int = 2,
    action_limit: tuple[float, float, float, float] = (0.5, 0.5, 4.0, 4.0),
    skip_bad: bool = False,
    download: bool = False,
) -> None:
    """Turn the BAIR robot pushing data into a store; resumes where an earlier import stopped.

    Args:
        path: the folder into which the archive was unpacked, or in which TensorFlow Datasets prepared
            bair_robot_pushing_small; or one file of either, such as the published test file.
        out: folder of the store.
        camera: whose pictures; both: two episodes of each trajectory.
        limit: so many training trajectories at most; those of the test are always all read.
        action_limit: bounds of a frame's action, below and above 0. What lies outside is an error, never clipped.
        skip_bad: leave out records that cannot be read, and list them.
        download: fetch the archive (30 GiB, CC BY 4.0) into PATH first, if it is not there; see docs/bair.md.
    """
    from worldmodel.data.bair.download import fetch_bair
    from worldmodel.data.bair.importer import import_bair

    if download:
        fetch_bair(path)
    import_bair(
        path,
        out,
        camera=camera,
        limit=limit,
        frames_per_step=frames_per_step,
        action_limit=action_limit,
        skip_bad=skip_bad,
    )


def run_import_video(
    videos: tyro.conf.Positional[tuple[Path, ...]],
    out: Path,
    actions: tuple[Path, ...] = (),
    fps: float | None = None,
    frames_per_step: int = 2,
    action_kind: Literal["auto", "discrete", "box"] = "auto",
    action_names: tuple[str, ...] = (),
    action_columns: tuple[str, ...] = (),
    action_limit: tuple[float, ...] = (),
    reward: str | None = None,
    signals: tuple[str, ...] = (),
    size: tuple[int, int] | None = None,
    channels: Literal[1, 3] = 3,
    ends: Literal["stopped", "truncated", "terminated"] = "stopped",
    name: str = "Video",
) -> None:
    """Turn your own videos and their actions into a store: one video, one episode. Goes on after a stop.

    Args:
        videos: files (mp4, mov, mkv, webm, avi, gif, npy, npz, …), folders of pictures, or folders of these.
        out: folder of the store.
        actions: a file (csv, tsv, npy, npz) for each video in the same order, or one folder with files of the same
            names; none: videos without actions.
        fps: frames per second of the videos; without it, what the first one says itself.
        frames_per_step: frames that make a step.
        action_kind: auto: discrete if each is one integer from 0 on, one word or one-hot; else box (numbers).
        action_names: of discrete actions, or of the numbers.
        action_columns: columns of actions, if these are not all but those of reward and signals; columns without a
            name by their numbers, counted from 0.
        action_limit: bounds of the numbers, below and above 0; without it, what the files hold.
        reward: column or array with the rewards.
        signals: columns or arrays with further numbers that the model shall predict.
        size: height and width to shrink to.
        channels: 1 for gray.
        ends: what the end of a video means.
        name: of the game.
    """
    from worldmodel.data.user_video.importer import import_video

    import_video(
        videos,
        actions,
        out,
        fps=fps,
        frames_per_step=frames_per_step,
        action_kind=action_kind,
        action_names=action_names,
        action_columns=action_columns,
        action_limit=action_limit,
        reward=reward,
        signals=signals,
        size=size,
        channels=channels,
        ends=ends,
        name=name,
    )


def run_inspect(what: tyro.conf.Positional[str], json: bool = False, verify: bool = False) -> None:
    """Tell what a store holds (splits, actions, rewards, ends, what is missing), or what a model or an agent is.

    Args:
        what: the folder of a store or of an agent, or a world model or tokenizer: its folder, a shipped name or a hub
            id.
        json: for programs.
        verify: also check that nothing has changed since it was saved: a checkpoint's files against its SHA256SUMS
            (refused if it has none), or every value of a store.
    """
    from json import dumps

    from worldmodel.training.reports.inspect_store import columns, facts_page, inspect_store, verify_store
    from worldmodel.training.reports.markdown import strict

    if (Path(what) / "data" / "metadata.json").is_file():
        facts = inspect_store(what)
        if verify:
            print(f"verified: {verify_store(what)}", file=sys.stderr)
        print(dumps(strict(facts), indent=2) if json else facts_page(facts))
        return
    from worldmodel.training.reports.inspect_model import model_facts

    rows = model_facts(what, verify)
    print(dumps(dict(rows), indent=2) if json else columns(rows))


def run_mirror(
    store: tyro.conf.Positional[Path],
    out: Path,
    swap: tuple[str, ...] = (),
    negate: tuple[str, ...] = (),
    negate_signals: tuple[str, ...] = (),
) -> None:
    """Write a store of the same play twice, as it was and as in a mirror, for games that know no left and right.

    Args:
        store: the folder of the store; it is not changed.
        out: folder of the new store.
        swap: pairs of actions that a mirror exchanges, such as turn_left=turn_right.
        negate: for actions of numbers: those that change their sign.
        negate_signals: game variables that change their sign, such as a position to the right; others stay.
    """
    from worldmodel.data import EpisodeStorage
    from worldmodel.data.mirror import mirror

    pairs = []
    for text in swap:
        left, equals, right = text.partition("=")
        if not equals:
            raise ValueError(f"swap takes pairs such as turn_left=turn_right, got {text}")
        pairs.append((left, right))
    new = mirror(EpisodeStorage.open(store), out, swap=pairs, negate=negate, negate_signals=negate_signals)
    print(f"{out}: {len(new)} episodes of {new.num_steps:,} steps, every second one in the mirror")


def run_export_bair(store: tyro.conf.Positional[Path], out: Path) -> None:
    """Write a store of pushing (64 x 64 x 3 frames, actions of 4 numbers a frame) as BAIR's TFRecord files."""
    from worldmodel.data.bair.exporter import export_bair

    export_bair(store, out)


# Each gives a command's function when it is handed the options that were typed.
DATA: dict[str, Callable[[Sequence[str]], Function]] = {
    "import-bair": lambda _: run_import_bair,
    "import-video": lambda _: run_import_video,
    "inspect": lambda _: run_inspect,
    "mirror": lambda _: run_mirror,
    "export-bair": lambda _: run_export_bair,
}
