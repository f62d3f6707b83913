"""Rerun the comparisons of the three papers on any store: train every variant, measure it, write the tables."""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from worldmodel.data import EpisodeStorage
from worldmodel.data.regroup import regroup
from worldmodel.errors import check_known
from worldmodel.evaluation.fvd import load_i3d
from worldmodel.files import JsonObject, atomic_write, read_json, write_json
from worldmodel.leftovers import is_temporary
from worldmodel.training import distributed
from worldmodel.training.ablations.jobs import check_failed, run_jobs
from worldmodel.training.ablations.measure import (
    Measuring,
    floor_of,
    floor_source,
    measure_copying,
    measure_prior,
    measure_tokenizer,
    prepare,
)
from worldmodel.training.ablations.page import write_table
from worldmodel.training.ablations.papers import COPY
from worldmodel.training.ablations.scale import PRESETS, Scale
from worldmodel.training.ablations.tables import TABLES, variants
from worldmodel.training.ablations.variant import Variant
from worldmodel.training.reports.markdown import machine
from worldmodel.training.train_dynamics import train_dynamics
from worldmodel.training.train_tokenizer import TokenizerTraining, train_tokenizer


def ablate(
    table: str,
    /,
    data: str | Path,
    out: str | Path = "runs/ablations",
    preset: str | Scale = "small",
    *,
    i3d: str | Path | None = None,
    samplings: int | None = None,
    workers: int = 1,
    seed: int = 0,
    device: str = "auto",
    command: str = "",
) -> dict[str, str]:
    """Train and measure every variant of a table; OUT/TABLE.md and OUT/TABLE.json are the table.

    Every training has a folder in OUT named after its configuration: tables share trainings, and finished ones are not
    repeated. Run it again to resume after an interruption.

    Args:
        table: attention, depth, transformer, positions, latents, codes, codebooks or conditions (VideoGen);
            lvt-codebooks, lvt-subscale, lvt-attention or lvt-adaptive (Latent Video Transformer); pixelcnn (Predicting
            Video with VQVAE); papers, which compares the three; or all.
        data: a store, whose test episodes are measured; OUT belongs to it from then on.
        out: folder of the tables and the trainings.
        preset: "smoke" (seconds each), "small" (minutes each on one CPU core) or "paper" (the paper's sizes).
        i3d: TorchScript file of an I3D network that gives logits, for FVD; without it FVD is absent.
        samplings: how often samples are drawn; above 1, distances are means over them, with their deviation. None:
            that of the preset, 10 in "paper", else 1.
        workers: trainings at once, each in a process with its share of the threads: tokenizers first, then priors.
        seed: seed of every training and of the measured clips.
        device: where to train and measure; "auto" takes a GPU if there is one.
        command: the command line, shown on the page.

    Returns: the page of each table by its name; the pages are also printed.

    Raises: OutsideError at the end if a training failed; the others are done and the tables are written.
    """
    check_known("table", table, (*TABLES, "all"))
    if isinstance(preset, str):
        check_known("preset", preset, PRESETS)
    label, scale = (preset, PRESETS[preset]) if isinstance(preset, str) else ("custom", preset)
    scale = replace(scale.with_seed(seed), samplings=samplings or scale.samplings)
    if i3d is not None:
        load_i3d(i3d)  # reject a wrong file before hours of training
    store, out = EpisodeStorage.open(data), Path(out)
    tables = {name: variants(name, scale, store.info) for name in (TABLES if table == "all" else (table,))}
    _claim(out, store)
    place = str(distributed.training_device(device))
    measuring = Measuring(
        data=str(data),
        folder=str(out / f"measure-{scale.samples}clips-seed{seed}"),
        i3d=None if i3d is None else str(i3d),
        device=place,
        samples=scale.samples,
        samplings=scale.samplings,
        seed=seed,
        inverse_dynamics=scale.inverse_dynamics,
    )
    prepare(measuring)
    failed = _train_all([row for rows in tables.values() for row in rows], store, out, scale, measuring, workers)
    about = {
        "preset": label,
        "seed": seed,
        "samples": scale.samples,
        "samplings": scale.samplings,
        "env_id": store.info.env_id,
        "steps": _learned_steps(store, scale.data_steps),
        "floor": floor_of(measuring),
        "floor_source": floor_source(measuring),
        "command": command or f"ablate({table!r}, {str(data)!r}, {str(out)!r}, {label!r})",
        "machine": machine(),
        "workers": workers,
    }
    pages = {}
    for name, rows in tables.items():
        results = about | {"rows": [_row(variant, out, failed) for variant in rows] + _copy_row(rows, measuring)}
        pages[name] = write_table(out, name, results)
        print(pages[name])
    print(f"Everything is in {out}.")
    check_failed(failed, "trainings")
    return pages


def _claim(out: Path, store: EpisodeStorage) -> None:
    """Refuse a folder that holds trainings on other data, or something else."""
    path, data = out / "data.json", {"fingerprint": store.fingerprint()}
    if not path.exists() and out.exists() and any(not is_temporary(each.name) for each in out.iterdir()):
        raise ValueError(f"{out} holds something other than ablations (data.json is missing); use another --out")
    if path.exists() and read_json(path) != data:
        raise ValueError(f"{out} holds ablations on other data than {store.root}; use another --out")
    write_json(path, data)


def _train_all(
    rows: list[Variant], store: EpisodeStorage, out: Path, scale: Scale, measuring: Measuring, workers: int
) -> list[str]:
    """Train and measure what the rows need, each once; returns the names of the folders that failed."""
    rows = [row for row in rows if row.tokenizer is not None]
    tokenizers = {row.tokenizer_folder: row.tokenizer for row in rows if row.tokenizer is not None}
    stores = {
        frames: _store_for(frames, store, out, scale)
        for frames in sorted({config.model.frames_per_step for config in tokenizers.values()})
    }
    threads = max(1, torch.get_num_threads() // workers)

    def run(jobs: Mapping[str, Callable[[], None]]) -> list[str]:
        return run_jobs(jobs, out / "logs", workers, threads)

    failed = run(
        {
            folder: partial(_tokenizer_job, stores[config.model.frames_per_step], out / folder, config, measuring)
            for folder, config in tokenizers.items()
        }
    )
    priors: dict[str, Callable[[], None]] = {}
    for row in rows:
        if row.dynamics is None or row.tokenizer is None or row.tokenizer_folder in failed:
            continue
        data = stores[row.tokenizer.model.frames_per_step]
        tokenizer, folder = out / row.tokenizer_folder, out / row.dynamics_folder
        priors[row.dynamics_folder] = partial(_prior_job, data, tokenizer, folder, row, measuring)
    return failed + run(priors)


def _store_for(frames_per_step: int, store: EpisodeStorage, out: Path, scale: Scale) -> Path:
    """The store itself, or the part of it to train on, in steps of this many frames."""
    steps = scale.data_steps
    if store.info.frames_per_step == frames_per_step and (steps is None or steps >= store.num_steps):
        return store.root
    return regroup(store, out / f"data-{frames_per_step}frames-{steps or 'all'}", frames_per_step, steps)


def _learned_steps(store: EpisodeStorage, most: int | None) -> int:
    """Steps of the train split among the first episodes that `_store_for` takes: what is held out is not learned."""
    train, taken, learned = set(store.split("train").tolist()), 0, 0
    for episode, steps in enumerate(store.lengths):
        if most is not None and taken >= most:
            break
        taken += steps
        learned += steps if episode in train else 0
    return learned


def _tokenizer_job(data: Path, folder: Path, config: TokenizerTraining, measuring: Measuring) -> None:
    _timed(folder, lambda: train_tokenizer(data, folder, config, device=measuring.device))
    measure_tokenizer(folder, measuring)


def _prior_job(data: Path, tokenizer: Path, folder: Path, row: Variant, measuring: Measuring) -> None:
    def train() -> None:
        # Priors on one tokenizer have the same codes: the first one to encode the store shares them.
        _share(tokenizer / "codes.safetensors", folder / "codes.safetensors")
        train_dynamics(data, tokenizer / "last", folder, row.dynamics, device=measuring.device)
        _share(folder / "codes.safetensors", tokenizer / "codes.safetensors")

    _timed(folder, train)
    measure_prior(folder, tokenizer, measuring, row.given_frames, row.judged_from)


def _share(source: Path, target: Path) -> None:
    """Put a file in a second place; files of codes are replaced, never changed, so both can share one copy on disk."""
    if not source.exists() or target.exists():
        return
    with atomic_write(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, temporary)


def _timed(folder: Path, train: Callable[[], Any]) -> None:
    """Train unless finished; writes the minutes of the last attempt, and whether there were others, to time.json."""
    if (folder / "time.json").exists():
        return
    resumed, begin = (folder / "training_state.pt").exists(), time.monotonic()
    train()
    write_json(folder / "time.json", {"minutes": (time.monotonic() - begin) / 60, "resumed": resumed})


def _copy_row(rows: list[Variant], measuring: Measuring) -> list[dict[str, Any]]:
    """A row for repeating the last given frame, if the table's samples are compared with the frames that follow."""
    judged_from = max(row.judged_from for row in rows)
    if not judged_from:
        return []
    here = f"copy the last of {judged_from} given frames"
    return [{"name": COPY, "here": here, "metrics": measure_copying(measuring, judged_from)}]


def _row(variant: Variant, out: Path, failed: list[str]) -> dict[str, Any]:
    """A row of the table, from the files of its jobs."""
    row: dict[str, Any] = {"name": variant.name, "here": variant.here, "metrics": {}}
    if variant.tokenizer is None:
        return row
    folders = {"tokenizer": variant.tokenizer_folder}
    row["config"] = {"tokenizer": asdict(variant.tokenizer)}
    if variant.dynamics is not None:
        folders["prior"] = variant.dynamics_folder
        row["config"]["dynamics"] = asdict(variant.dynamics)
    row["folders"] = folders
    for part, folder in folders.items():
        if folder in failed or (part == "prior" and variant.tokenizer_folder in failed):
            row["failed"] = f"{folder} failed" if folder in failed else "its tokenizer failed"
            break
        row["metrics"] |= read_json(out / folder / "measured.json", JsonObject, ("metrics",))["metrics"]
        took = read_json(out / folder / "time.json", JsonObject, ("minutes",))
        if not took.get("resumed"):  # else the minutes are those of the last attempt alone
            row["metrics"][f"{part}_minutes"] = took["minutes"]
    return row
