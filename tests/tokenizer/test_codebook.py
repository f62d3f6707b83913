import math
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from tests.processes import FORKS, START
from worldmodel.tokenizer import CodebookConfig, SlicedCodebook


def make_codebook(**changes) -> SlicedCodebook:
    torch.manual_seed(0)
    return SlicedCodebook(CodebookConfig(**{"num_codes": 8, "num_slices": 2, "code_dim": 4} | changes))


def train(codebook: SlicedCodebook, batches: torch.Tensor, seed: int) -> SlicedCodebook:
    torch.manual_seed(seed)
    for latents in batches:
        codebook(latents)
    return codebook


def test_each_slice_uses_its_nearest_code():
    codebook = make_codebook()
    latents = torch.randn(5, 8)
    codes = codebook.encode(latents)
    for m, part in enumerate(latents.split(4, dim=-1)):
        assert torch.equal(codes[:, m], torch.cdist(part, codebook.vectors[m]).argmin(-1))


def test_lookup_gives_the_vectors_of_the_codes():
    codebook = make_codebook()
    codes = torch.tensor([[[3, 5]]])
    assert torch.equal(codebook.lookup(codes)[0, 0], torch.cat((codebook.vectors[0, 3], codebook.vectors[1, 5])))


def test_a_rate_weight_prefers_common_codes_among_those_that_fit_about_as_well():
    """Codes 0, 1 and 10, used 90, 9 and 1 times: a variance of .99, and 2.3 nats between the first two."""
    latents = torch.tensor([[0.6], [2.0], [8.0]])
    chosen = {}
    for weight in (0.0, 0.1, 0.2, 10.0):
        codebook = make_codebook(num_codes=3, num_slices=1, code_dim=1, rate_weight=weight)
        codebook.vectors[0, :, 0] = torch.tensor([0.0, 1.0, 10.0])
        codebook.counts[0] = torch.tensor([90.0, 9.0, 1.0])
        chosen[weight] = codebook.encode(latents)[:, 0].tolist()
    # Code 0 is farther from .6 than code 1 by .36 - .16 = .2, and 2.3 nats * .99 = 2.3 cheaper.
    assert chosen == {0.0: [1, 1, 2], 0.1: [0, 1, 2], 0.2: [0, 1, 2], 10.0: [0, 0, 2]}


def test_a_rate_weight_does_not_depend_on_the_scale_of_the_latents():
    codebook, latents = make_codebook(rate_weight=0.3), torch.randn(64, 8)
    codebook.counts *= torch.arange(1, 9) ** 2
    codes = codebook.encode(latents)
    assert not torch.equal(codes, make_nearest(codebook).encode(latents))
    codebook.vectors *= 100.0
    assert torch.equal(codebook.encode(latents * 100.0), codes)


def make_nearest(codebook: SlicedCodebook) -> SlicedCodebook:
    """The same codebook without a rate weight."""
    nearest = make_codebook()
    nearest.load_state_dict(codebook.state_dict())
    return nearest


@pytest.mark.parametrize("num_slices", [1, 2])
def test_training_with_a_rate_weight_spends_fewer_bits_on_noise(num_slices):
    """Half of the latents are the same but for a little noise: they end in few codes, and the others keep theirs."""

    def bits(weight: float) -> tuple[float, float]:
        codebook = make_codebook(num_codes=32, num_slices=num_slices, rate_weight=weight)
        noise = torch.Generator().manual_seed(1)
        still = 0.05 * torch.randn(60, 128, 4 * num_slices, generator=noise)
        other = torch.randn(60, 128, 4 * num_slices, generator=noise)
        train(codebook, torch.cat((still, other), dim=1), seed=0)
        used = codebook.encode(still.flatten(0, 1))[:, 0].bincount(minlength=32).double()
        return float(torch.special.entr(used / used.sum()).sum() / math.log(2)), float(codebook(other[-1]).commitment)

    (plain, error), (cheap, same) = bits(0.0), bits(0.1)
    assert plain > 2.5 and cheap < 0.5
    assert same < 1.15 * error


def test_gradients_pass_straight_through():
    codebook = make_codebook().eval()
    latents = torch.randn(3, 8, requires_grad=True)
    quantized = codebook(latents)
    quantized.latents.sum().backward()
    assert torch.equal(latents.grad, torch.ones_like(latents))
    assert torch.allclose(quantized.latents, codebook.lookup(quantized.codes), atol=1e-6)


def test_first_codes_are_latents_of_the_data():
    codebook = make_codebook(decay=0.0, restart_below=0.0)
    latents = torch.randn(16, 8) + 10
    codebook._start(codebook._split(latents))
    for m, part in enumerate(latents.split(4, dim=-1)):
        assert torch.cdist(codebook.vectors[m], part).min(-1).values.max() < 1e-5


def test_moving_averages_by_hand():
    codebook = make_codebook(num_codes=1, num_slices=1, decay=0.9)
    codebook.started.fill_(True)
    codebook.vectors.zero_()
    codebook.sums.zero_()
    codebook.counts.fill_(1.0)
    codebook(torch.full((3, 4), 2.0))
    # counts: 0.9 * 1 + 0.1 * 3 = 1.2; sums: 0.1 * 6 = 0.6
    assert codebook.counts.item() == pytest.approx(1.2)
    assert torch.allclose(codebook.vectors, torch.tensor(0.5))


def test_counts_have_laplace_smoothing():
    codebook = make_codebook(num_codes=2, num_slices=1, decay=0.0, restart_below=0.0)
    codebook.started.fill_(True)
    codebook.vectors[0, 0], codebook.vectors[0, 1] = 0.0, 100.0
    codebook(torch.full((3, 4), 1.0))
    smooth = torch.tensor([3 + 1e-7, 1e-7]) / (3 + 2e-7) * 3
    assert torch.allclose(codebook.vectors[0, 0], 3 / smooth[0]) and not codebook.vectors[0, 1].any()


def test_first_codes_are_all_different():
    codebook = make_codebook()
    codebook._start(codebook._split(torch.arange(8.0)[:, None].expand(-1, 8)))
    assert codebook.vectors[0, :, 0].sort().values.tolist() == list(range(8))


def test_fewer_latents_than_codes_are_repeated_with_a_little_noise():
    codebook = make_codebook()
    latents = torch.arange(3.0)[:, None].expand(-1, 8)
    codebook._start(codebook._split(latents))
    near = codebook.vectors[0].round()
    assert set(near.flatten().tolist()) == {0.0, 1.0, 2.0}
    assert len(codebook.vectors[0].unique(dim=0)) == 8 and (codebook.vectors[0] - near).abs().max() < 0.1


@pytest.mark.parametrize("times", [1, 10])
def test_codes_restart_below_a_share_of_the_mean_use(times):
    """16 latents for 4 codes: half the mean usage is 2. Ten times as many latents change nothing."""
    codebook = make_codebook(num_codes=4, num_slices=1, decay=0.0, restart_below=0.5)
    codebook.started.fill_(True)
    codebook.vectors[0] = torch.tensor([0.0, 10.0, 20.0, 30.0])[:, None]
    uses = torch.tensor([8, 5, 2, 1]) * times
    codebook(codebook.vectors[0].repeat_interleave(uses, dim=0))
    assert (codebook.counts[0, :3] == uses[:3]).all()
    assert codebook.counts[0, 3] != uses[3]


def test_unused_codes_restart_at_latents_of_the_batch():
    codebook = make_codebook(num_slices=1, decay=0.5)
    codebook.started.fill_(True)
    codebook.vectors[0, 1:] = 1000.0
    latents = torch.randn(32, 4)
    train(codebook, latents.expand(8, -1, -1), seed=0)
    assert codebook.vectors.abs().max() < 10
    assert len(codebook.encode(latents).unique()) > 4


def test_evaluation_changes_nothing():
    codebook = make_codebook().eval()
    before = {name: tensor.clone() for name, tensor in codebook.state_dict().items()}
    codebook(torch.randn(32, 8))
    assert all(torch.equal(before[name], tensor) for name, tensor in codebook.state_dict().items())


def test_resumed_training_equals_uninterrupted_training():
    early, late = torch.randn(6, 32, 8).chunk(2)
    unbroken = train(train(make_codebook(), early, seed=1), late, seed=2)
    resumed = make_codebook()
    resumed.load_state_dict(train(make_codebook(), early, seed=1).state_dict())
    assert torch.equal(train(resumed, late, seed=2).vectors, unbroken.vectors)


def test_codebook_stays_in_float32_under_autocast():
    """Codes too close for bfloat16 are distinguished in training and in encoding."""
    codebook = make_codebook(restart_below=0.0)
    codebook.started.fill_(True)
    codebook.vectors.copy_(10 + 0.05 * torch.arange(8.0)[:, None].expand(2, 8, 4))
    codes = torch.arange(8)[:, None].expand(8, 2)
    latents = codebook.lookup(codes)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(codebook.encode(latents), codes)
        assert torch.equal(codebook(latents).codes, codes)
        assert codebook(latents.to(torch.bfloat16)).latents.dtype == torch.float32
    assert codebook.vectors.dtype == torch.float32


@pytest.mark.parametrize("bad", [{"num_codes": 0}, {"decay": 1.0}, {"restart_below": -0.1}])
def test_impossible_sizes_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        CodebookConfig(**bad)


def test_latents_of_another_width_are_refused():
    with pytest.raises(ValueError, match="2 slices x 4 features = 8"):
        make_codebook().encode(torch.randn(3, 7))


def batch_of(rank: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 10, 48, 8, generator=generator)[rank]


def train_in_process(rank: int, folder: Path) -> None:
    """One of two processes: half of the batches each, from the same codes; then from its own data with restarts."""
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    codebook = make_codebook(restart_below=0.0)
    codebook.started.fill_(True)
    alike = train(codebook, batch_of(rank, seed=0), seed=rank).state_dict()
    first = make_codebook()
    first._start(first._split(batch_of(rank, seed=1)[0]))
    free = train(make_codebook(num_codes=32, restart_below=0.9), batch_of(rank, seed=1), seed=rank).state_dict()
    torch.save({"alike": alike, "first": first.state_dict(), "free": free}, folder / f"{rank}.pt")
    distributed.destroy_process_group()


@FORKS
def test_two_processes_equal_one_on_the_joint_batch(tmp_path):
    multiprocessing.start_processes(train_in_process, (tmp_path,), nprocs=2, start_method=START)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for kind in ("alike", "first", "free"):
        for name, tensor in found[0][kind].items():
            assert torch.equal(tensor, found[1][kind][name]), f"{name} differs between the processes"
    one = make_codebook(restart_below=0.0)
    one.started.fill_(True)
    joint = torch.cat([batch_of(rank, seed=0) for rank in (0, 1)], dim=1)
    for name, tensor in train(one, joint, seed=0).state_dict().items():
        assert torch.allclose(tensor.float(), found[0]["alike"][name].float(), atol=1e-4)
    # The initial codes are latents of rank 0; counts are those of both.
    first, latents = found[0]["first"], batch_of(0, seed=1)[0]
    for m, part in enumerate(latents.split(4, dim=-1)):
        assert (first["vectors"][m][:, None] == part).all(-1).any(-1).all()
    assert first["counts"].eq(2 * 48 / 8).all()


@pytest.mark.filterwarnings("ignore")  # from a third-party library
def test_the_moving_averages_equal_those_of_vector_quantize_pytorch():
    library = pytest.importorskip("vector_quantize_pytorch")
    ours = make_codebook(num_slices=1, restart_below=0.0)
    ours.started.fill_(True)
    theirs = library.VectorQuantize(
        dim=4, codebook_size=8, decay=0.99, eps=1e-7, threshold_ema_dead_code=0, kmeans_init=False
    ).train()
    theirs._codebook.embed.data.copy_(ours.vectors)
    theirs._codebook.embed_avg.data.copy_(ours.sums)
    theirs._codebook.cluster_size.data.copy_(ours.counts)
    for latents in torch.randn(20, 48, 4):
        quantized = ours(latents)
        vectors, codes, _ = theirs(latents[None])
        assert torch.equal(quantized.codes[:, 0], codes[0])
        assert torch.allclose(quantized.latents, vectors[0], atol=1e-4)
    assert torch.allclose(ours.vectors, theirs._codebook.embed, atol=1e-4)
    assert torch.allclose(ours.counts, theirs._codebook.cluster_size, atol=1e-4)


def test_more_codes_than_files_can_store_are_refused():
    CodebookConfig(num_codes=2**15)
    with pytest.raises(ValueError, match="at most 32768"):
        CodebookConfig(num_codes=2**15 + 1)
