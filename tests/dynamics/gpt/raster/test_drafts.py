"""The length of a pass follows the acceptance of drafts."""

import random

import pytest
import torch

from worldmodel.dynamics.gpt.raster.drafts import DraftMemory, RowDrafts


def learned(share: float, drafts: int = 1500) -> DraftMemory:
    """After drafts of every kind of which this share was accepted."""
    rates = DraftMemory()
    for number in range(drafts):
        for kind in range(len(rates.rates)):
            rates.update(kind, number * share % 1 < share)
    return rates


def test_rates_are_shares_of_accepted_drafts():
    for share in (0.0, 0.25, 1.0):
        assert learned(share).rates == pytest.approx([share] * len(DraftMemory().rates), abs=0.05)


def test_rates_forget():
    rates = learned(1.0)
    for _ in range(1500):
        rates.update(0, False)
    assert rates.rates[0] < 0.05


def test_passes_are_longer_the_better_the_drafts_and_the_fewer_rows_share_their_cost():
    lengths = [[learned(share).pass_length(rows) for share in (0.0, 0.6, 1.0)] for rows in (1, 8, 64)]
    assert all(row == sorted(row) and row[0] == 1 and row[-1] == 16 for row in lengths)
    middle = [row[1] for row in lengths]
    assert middle == sorted(middle, reverse=True) and middle[0] > middle[-1]


@pytest.mark.parametrize("length", [2, 4, 7])
def test_final_tokens_are_those_of_a_simulation(length):
    rates, chance = DraftMemory(), random.Random(0)
    rates.rates = [0.3, 0.5, 0.8, 0.6, 0.4, 0.9, 0.7]
    row, passes, unchanged = RowDrafts(20_000), 0, list(rates.rates)
    while row.final + length < 20_000:
        kinds = row.kinds[row.final : row.final + length]
        row.verify([chance.random() < unchanged[kind] for kind in kinds], DraftMemory())
        passes += 1
    assert rates.final_tokens(length) == pytest.approx(row.final / passes, rel=0.03)


def test_tokens_are_final_up_to_the_first_that_differs_from_its_draft():
    row, rates = RowDrafts(8), DraftMemory()
    row.verify([True, True, False, True, False], rates)
    assert row.final == 3
    assert row.kinds[3:] == [1, 2, 0, 0, 0]
    row.verify([True, False], rates)
    assert row.final == 5 and row.kinds[5:] == [0, 0, 0]
    row.verify([True], rates)
    assert row.final == 6


def test_rows_that_continue_are_redrawn_and_others_keep_their_codes():
    memory, codes, redrawn = DraftMemory(), torch.tensor([[[1], [2]], [[3], [4]]]), torch.full((2, 2, 1), 9)
    assert torch.equal(memory.drafts(codes, 2, lambda outputs: redrawn), codes)
    memory.keep(codes, torch.zeros(2, 2, 8))
    changed = codes.clone()
    changed[1, 0] = 7
    assert memory.drafts(changed, 2, lambda outputs: redrawn).tolist() == [[[9], [9]], [[7], [4]]]
    for other, rows in ((codes[:1], 1), (codes, 4)):  # another number of rows, and guidance
        assert torch.equal(memory.drafts(other, rows, lambda outputs: redrawn), other)
