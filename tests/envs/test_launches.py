"""What a step runs on its device, on one that computes no values (`benchmarks/launches.py`)."""

from itertools import product

import pytest
import torch

from benchmarks.launches import META, Builds, Launches, launches_of, on_meta
from tests.tiny import tiny_world
from worldmodel.model import WorldModel

KINDS = ({}, {"order": "raster"}, {"attention": "axial"}, {"refine": 2})
OBSERVATIONS = ("rgb", "latent", "codes", "features")
# Every pair of the three is in the fast half.
CASES = [
    pytest.param(obs, bool(full), kind, marks=() if (o + k + full) % 2 else pytest.mark.slow)
    for (k, kind), (o, obs), full in product(enumerate(KINDS), enumerate(OBSERVATIONS), (1, 0))
]


@pytest.mark.parametrize(("obs", "full", "kind"), CASES)
def test_a_step_transfers_nothing_between_host_and_device(obs, full, kind):
    launches = launches_of(on_meta(tiny_world(**kind), obs, 3, full))
    assert launches.count.total() > 100 and not launches.carried


@pytest.mark.parametrize(
    "carry",
    [
        lambda: torch.zeros(3).to(META),
        lambda: torch.tensor(5.0).to(META),
        lambda: torch.tensor([5], device=META),
        lambda: torch.as_tensor([5], device=META),
        lambda: torch.zeros(3, device=META).new_tensor([5]),
        lambda: torch.zeros(3, device=META)[[0, 1]],
        lambda: torch.zeros(3, device=META).copy_(torch.zeros(3)),
    ],
)
def test_transfers_are_detected(carry):
    with Launches() as launches, Builds() as builds:
        carry()
    assert launches.carried or builds.carried


@pytest.mark.parametrize("ask", [lambda x: x.sum().item(), lambda x: x.nonzero(), lambda x: x[x > 0], bool])
def test_values_cannot_be_read_from_the_meta_device(ask):
    with pytest.raises(RuntimeError, match="meta"):
        ask(torch.zeros(1, device=META))


def test_a_step_of_the_shipped_doom_preset_launches_at_most_600_kernels():
    launches = launches_of(on_meta(WorldModel.from_pretrained("doom-hg", dtype=torch.bfloat16), "latent", 4096))
    assert 200 < launches.count.total() <= 600
