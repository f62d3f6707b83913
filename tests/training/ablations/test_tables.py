"""What the tables compare: every variant can be built, and differs from the base only in the subject of its table."""

from dataclasses import asdict, replace

import pytest
import torch

from tests.training.recorded import ACTIONS
from worldmodel.data import StoreInfo
from worldmodel.dynamics import SubscaleConfig
from worldmodel.dynamics.build import build_for
from worldmodel.tokenizer import build
from worldmodel.training.ablations.other_tables import OTHER_TABLES
from worldmodel.training.ablations.papers import COPY, PAPER, STATED
from worldmodel.training.ablations.scale import PRESETS
from worldmodel.training.ablations.tables import TABLES, variants
from worldmodel.training.ablations.variant import latent_name

INFO = StoreInfo(env_id="VideoGenReal-Doom", frames_per_step=2, height=64, width=64, channels=3, action=ACTIONS)
VIDEOGENS = ("transformer", "positions", "conditions")  # tables of VideoGen's submission, which has its own base
OF_VIDEOGEN = tuple(table for table in TABLES if table not in OTHER_TABLES)
# Base rows of the tables of the other papers.
OTHER_BASES = {
    "lvt-codebooks": "1",
    "lvt-subscale": "single frame, n_c 4",
    "lvt-attention": "query-key",
    "lvt-adaptive": "embedding, softmax",
    "pixelcnn": "past in full, window 4, attention",
}
BASE = {
    **{(name, True): variants("transformer", scale, INFO)[0] for name, scale in PRESETS.items()},
    **{(name, False): variants("codes", scale, INFO)[1] for name, scale in PRESETS.items()},
}


def differences(a: dict, b: dict, prefix: str = "") -> set[str]:
    """Names of the settings in which two nested dicts differ."""
    found = set()
    for key in a:
        if isinstance(a[key], dict):
            found |= differences(a[key], b[key], f"{prefix}{key}.")
        elif a[key] != b[key]:
            found.add(prefix + key)
    return found


LATENTS = {
    "tokenizer.model.frames_per_step",
    "tokenizer.model.clip_steps",
    "tokenizer.model.stage_widths",
    "tokenizer.model.space_stride",
    "dynamics.model.window",
    "dynamics.model.max_steps",
    "dynamics.clip_stride",
}
SLICES = {
    "tokenizer.model.codebook.num_slices",
    "tokenizer.model.codebook.code_dim",
    "dynamics.model.code_head_width",
}
BOOKS = {"tokenizer.model.codebook.num_slices", "tokenizer.model.codebook.code_dim"}
VARIED = {
    "attention": {"tokenizer.model.attention"},
    "depth": {"dynamics.model.layers"},
    "transformer": {"dynamics.model.attention"},
    "positions": {"dynamics.model.position"},
    "latents": LATENTS,
    "codes": {"tokenizer.model.codebook.num_codes"},
    "codebooks": LATENTS | SLICES,
    "conditions": {
        "dynamics.model.action_condition",
        "dynamics.model.condition_width",
        "dynamics.model.frame_condition",
        "dynamics.model.frame_condition_frames",
    },
    "lvt-codebooks": BOOKS,
    "lvt-subscale": BOOKS | {"dynamics.model.subscale", "dynamics.model.kernel", "dynamics.model.books"},
    "lvt-attention": {"dynamics.model.attention"},
    "lvt-adaptive": {"dynamics.model.code_input", "dynamics.model.code_output"},
    "pixelcnn": {"dynamics.model.past", "dynamics.model.bottom_window", "dynamics.model.attention_every"},
}


@pytest.mark.parametrize("table", VIDEOGENS)
def test_videogens_own_tables_have_its_base_at_the_papers_size(table):
    row = variants(table, PRESETS["paper"], INFO)[0]
    assert (latent_name(row.tokenizer.model), row.tokenizer.model.codebook.num_codes) == ("8x16x16", 2048)
    assert (row.dynamics.model.layers, row.dynamics.model.width) == (22, 384)


def test_at_other_sizes_all_tables_share_a_base():
    same = [variants("transformer", PRESETS["small"], INFO)[0], BASE["small", False]]
    assert same[0].tokenizer == same[1].tokenizer and same[0].dynamics == same[1].dynamics


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("table", OF_VIDEOGEN)
def test_variants_differ_from_the_base_only_in_what_the_table_compares(table, preset):
    base = {part: asdict(getattr(BASE[preset, table in VIDEOGENS], part)) for part in ("tokenizer", "dynamics")}
    rows = [row for row in variants(table, PRESETS[preset], INFO) if row.tokenizer is not None]
    found, bases = set(), 0
    for row in rows:
        settings = {part: asdict(getattr(row, part)) for part in base if getattr(row, part) is not None}
        differing = differences(settings, base)
        bases += not differing
        found |= differing
    assert found and found <= VARIED[table]
    assert bases == 1 and len({(row.tokenizer_folder, row.here) for row in rows}) == len(rows) > 1


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("table", "base"), OTHER_BASES.items())
def test_variants_of_the_other_papers_differ_only_in_what_the_table_compares(table, base, preset):
    rows = variants(table, PRESETS[preset], INFO)
    settings = {
        row.name: {
            part: asdict(getattr(row, part)) for part in ("tokenizer", "dynamics") if getattr(row, part) is not None
        }
        for row in rows
    }
    differing = {name: differences(each, settings[base]) for name, each in settings.items()}
    assert [name for name, found in differing.items() if not found] == [base]
    assert set().union(*differing.values()) == VARIED[table]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("table", TABLES)
def test_every_variant_can_be_built(table, preset):
    for row in variants(table, PRESETS[preset], INFO):
        if row.tokenizer is None:
            continue
        with torch.device("meta"):
            tokenizer = build(row.tokenizer.model)
            if row.dynamics is not None:
                row.dynamics.segment_steps(row.tokenizer.model)  # refuses clips that do not suit the model
                of_codes = (tokenizer.grid, tokenizer.num_codes, tokenizer.num_slices, tokenizer.code_dim)
                model = row.dynamics.model
                if isinstance(model, SubscaleConfig):
                    model = replace(model, layers=1)  # quick to build
                    model = replace(model, cutoffs=(4, 8)) if model.adaptive else model  # training measures them
                build_for(model, *of_codes, ACTIONS, (row.tokenizer.model.frames_per_step, 3))


def test_the_paper_preset_has_the_papers_own_sizes():
    rows = {row.name: row for row in variants("lvt-subscale", PRESETS["paper"], INFO)}
    with torch.device("meta"):
        for name, weights in {"single frame, n_c 4": 49.87e6, "spatial, n_c 4": 50.39e6}.items():
            tokenizer = build(rows[name].tokenizer.model)
            of_codes = (tokenizer.grid, tokenizer.num_codes, tokenizer.num_slices, tokenizer.code_dim)
            model = build_for(rows[name].dynamics.model, *of_codes, ACTIONS, (1, 3))
            assert sum(each.numel() for each in model.parameters()) == pytest.approx(weights, rel=1e-3)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_models_of_the_three_papers_train_on_as_many_frames_with_actions(preset):
    rows = variants("papers", PRESETS[preset], INFO)
    assert [row.name for row in rows] == ["VideoGen", "Latent Video Transformer", "Predicting Video with VQVAE"]
    assert {row.judged_from for row in rows} == {4}
    frames, clips, steps = set(), set(), set()
    for row in rows:
        model, prior = row.tokenizer.model, row.dynamics
        frames.add(row.tokenizer.loop.batch_size * model.piece_steps * model.frames_per_step)
        clips.add(prior.loop.batch_size * (1 + prior.segment_steps(model)) * model.frames_per_step)
        steps.add((row.tokenizer.loop.steps, prior.loop.steps))
        assert prior.model.action_condition != "none" and row.given_frames in (2, 4)
    assert frames == clips == {PRESETS[preset].tokenizer_loop.batch_size * 16} and len(steps) == 1


@pytest.mark.parametrize(("frames", "most"), [(4, 2), (8, 4)])
def test_the_papers_are_not_compared_on_steps_without_an_action_each(frames, most):
    with pytest.raises(ValueError, match=f"frames_per_step {most} or less"):
        variants("papers", PRESETS["small"], replace(INFO, frames_per_step=frames))


def test_the_paper_preset_has_the_latents_and_codes_that_its_rows_name():
    for table in ("latents", "codebooks", "codes"):
        for row in variants(table, PRESETS["paper"], INFO):
            assert row.tokenizer is None or row.here in (row.name, row.name.removesuffix("x1"))
            if row.tokenizer is not None and table != "codes":
                assert latent_name(row.tokenizer.model) == row.here
    assert len([row for row in variants("latents", PRESETS["paper"], INFO) if row.tokenizer is None]) == 1


def test_all_rows_of_the_codebooks_table_have_one_number_of_codes():
    for scale in PRESETS.values():
        for row in variants("codebooks", scale, INFO):
            model = row.tokenizer.model
            codes = model.clip_steps * model.grid[0] * model.grid[1] * model.codebook.num_slices
            assert codes == 8 * (32 // scale.coarser) ** 2


def test_the_net_without_attention_is_of_about_equal_size():
    for preset in ("small", "paper"):
        with torch.device("meta"):
            sizes = [
                sum(parameter.numel() for parameter in build(row.tokenizer.model).parameters())
                for row in variants("attention", PRESETS[preset], INFO)
            ]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.08)


def test_every_figure_and_statement_belongs_to_a_row():
    for table in TABLES:
        rows = variants(table, PRESETS["paper"], INFO)
        names = [row.name for row in rows] + [COPY] * any(row.judged_from for row in rows)
        stated = {name for pairs in STATED.get(table, {}).values() for pair in pairs for name in pair}
        assert set(PAPER.get(table, {})) | stated <= set(names)


def test_folders_are_named_after_what_was_trained():
    base, scale = BASE["small", False], PRESETS["small"]
    again = variants("depth", scale, INFO)[2]
    assert (again.tokenizer_folder, again.dynamics_folder) == (base.tokenizer_folder, base.dynamics_folder)
    longer = replace(scale, tokenizer_loop=replace(scale.tokenizer_loop, steps=1))
    other = variants("depth", longer, INFO)[2]
    assert other.tokenizer_folder != base.tokenizer_folder and other.dynamics_folder != base.dynamics_folder


def test_an_unknown_table_gives_the_nearest():
    with pytest.raises(ValueError, match=r"unknown table 'position'\. Did you mean 'positions'"):
        variants("position", PRESETS["small"], INFO)
