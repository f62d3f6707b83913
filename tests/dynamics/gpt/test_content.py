"""Letters: B batch, T steps, S tokens per step, M slices, V codes, E features of a token's code vectors, D width."""

import copy
import pickle

import pytest
import torch

from tests.tiny import tiny_world
from worldmodel.dynamics.gpt import content
from worldmodel.dynamics.gpt.content import ContentTable
from worldmodel.layers.conv import GridConv
from worldmodel.layers.precision import Linear
from worldmodel.tokenizer import CodebookConfig, CodeLookup, SlicedCodebook

B, T, GRID, V, D = 3, 2, (3, 5), 7, 16
S = GRID[0] * GRID[1]


def make_parts(slices: int = 2, block: bool = True, dtype: torch.dtype = torch.float32):
    """Random weights outside training, and a codebook's lookup."""
    torch.manual_seed(0)
    book = SlicedCodebook(CodebookConfig(num_codes=V, num_slices=slices, code_dim=4))
    token_in = Linear(4 * slices, D, bias=False).to(dtype).requires_grad_(False)
    neighbours = GridConv(4 * slices, D).to(dtype).requires_grad_(False) if block else None
    return token_in, neighbours, book.lookup


def by_matmuls(codes, token_in, neighbours, lookup):
    vectors = lookup(codes)
    content = token_in(vectors).float()
    if neighbours is not None:
        content = content + neighbours(vectors.flatten(0, 1).unflatten(1, GRID)).float().reshape(content.shape)
    return content


def assert_alike(table, codes, parts, **tolerance):
    made = table(codes, parts[2])
    assert made.shape == (*codes.shape[:-1], D) and made.dtype == parts[0].weight.dtype
    torch.testing.assert_close(made.float(), by_matmuls(codes, *parts), **tolerance)


@torch.no_grad()
@pytest.mark.parametrize("slices", [1, 3])
@pytest.mark.parametrize(("block", "tokens"), [(True, S), (False, S), (False, 1)])
def test_content_looked_up_equals_the_matmuls(slices, block, tokens):
    parts = make_parts(slices, block)
    assert_alike(ContentTable(*parts[:2], GRID), torch.randint(V, (B, T, tokens, slices)), parts)


@torch.no_grad()
def test_in_bfloat16_it_is_as_close_as_the_matmuls():
    parts, exact = make_parts(dtype=torch.bfloat16), make_parts()
    codes = torch.randint(V, (B, T, S, 2))
    truth = by_matmuls(codes, *exact)
    looked_up = (ContentTable(*parts[:2], GRID)(codes, parts[2]).float() - truth).abs().mean()
    multiplied = (by_matmuls(codes, *parts) - truth).abs().mean()
    assert 0 < looked_up < 1.2 * multiplied


@torch.no_grad()
def test_tokens_of_several_positions_look_up_each_of_them():
    token_in, neighbours, _ = make_parts(slices=8)
    book = SlicedCodebook(CodebookConfig(num_codes=V, num_slices=2, code_dim=4))  # four positions of two slices each
    parts = token_in, neighbours, book.lookup
    assert_alike(ContentTable(token_in, neighbours, GRID), torch.randint(V, (B, T, S, 8)), parts)


@torch.no_grad()
def test_a_row_of_a_batch_equals_the_row_alone():
    token_in, neighbours, lookup = make_parts(dtype=torch.bfloat16)
    table, codes = ContentTable(token_in, neighbours, GRID), torch.randint(V, (64, 1, S, 2))
    together = table(codes, lookup)
    assert all(torch.equal(table(codes[row : row + 1], lookup)[0], together[row]) for row in (0, 31, 63))


@torch.no_grad()
@pytest.mark.parametrize("changed", [0, 1, 2])
def test_a_change_of_weights_or_codebook_is_noticed(changed):
    parts, codes = make_parts(), torch.randint(V, (B, T, S, 2))
    table = ContentTable(*parts[:2], GRID)
    table(codes, parts[2])
    (parts[2].vectors if changed == 2 else parts[changed].weight).mul_(2.0)
    assert_alike(table, codes, parts)


def test_a_table_is_computed_once_and_never_from_weights_in_training(monkeypatch):
    token_in, neighbours, lookup = make_parts()
    table, codes, made = ContentTable(token_in, neighbours, GRID), torch.randint(V, (B, T, S, 2)), []
    make = ContentTable._make
    monkeypatch.setattr(ContentTable, "_make", lambda *given: made.append(1) or make(*given))
    assert table(codes, lookup) is None  # gradients may be needed
    with torch.no_grad():
        neighbours.requires_grad_(True)
        assert table(codes, lookup) is None
        neighbours.requires_grad_(False)
        assert torch.equal(table(codes, lookup), table(codes, lookup)) and len(made) == 1


@torch.no_grad()
def test_a_table_that_would_be_too_large_is_not_computed(monkeypatch):
    token_in, neighbours, lookup = make_parts()
    codes, size = torch.randint(V, (B, T, S, 2)), 9 * 2 * (V + 1) * D
    monkeypatch.setattr(content, "_LARGEST", size)
    assert ContentTable(token_in, neighbours, GRID)(codes, lookup) is not None
    monkeypatch.setattr(content, "_LARGEST", size - 1)
    assert ContentTable(token_in, neighbours, GRID)(codes, lookup) is None


@torch.no_grad()
def test_no_rows_have_no_content():
    token_in, neighbours, lookup = make_parts()
    codes = torch.zeros(0, T, S, 2, dtype=torch.int64)
    assert ContentTable(token_in, neighbours, GRID)(codes, lookup).shape == (0, T, S, D)


@pytest.mark.parametrize("order", ["block", "raster"])
def test_a_world_trained_between_two_dreams_uses_its_current_weights(order):
    """Fused optimisers do not raise a weight's version."""
    world = tiny_world(order=order)
    given = world.starts.codes[:2], world.starts.actions[:2]
    dream = lambda one: one.step(one.start_codes(*given), torch.tensor([0, 1]))[1].outputs  # noqa: E731
    before = dream(world)
    world.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(world.dynamics.parameters(), lr=0.01, fused=True)
    vectors = world.tokenizer.lookup(given[0].flatten(2, 3)).detach()
    for _ in range(3):
        world.dynamics(vectors, given[1]).square().mean().backward()
        optimizer.step()
    world.prepare(torch.float32)
    now = dream(world)
    assert not torch.equal(now, before) and torch.equal(now, dream(copy.deepcopy(world)))


@torch.no_grad()
def test_copies_use_their_own_tables():
    parts, codes = make_parts(), torch.randint(V, (B, T, S, 2))
    table = ContentTable(*parts[:2], GRID)
    table(codes, parts[2])
    for other in (copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
        other._token_in.weight.mul_(2.0)
        assert_alike(other, codes, (other._token_in, other._neighbours, CodeLookup(parts[2].vectors)))
        assert_alike(table, codes, parts)
