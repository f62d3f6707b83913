import pytest
import torch

from worldmodel.dynamics.heads import Heads, HeadsConfig, TwoHot, symlog


def test_two_hot_mean_returns_the_target_it_was_fitted_to():
    two_hot = TwoHot(bins=41, limit=100.0)
    targets = torch.tensor([-80.0, -0.8, 0.0, 0.3, 2.5, 57.0])
    logits = torch.zeros(6, 41, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        two_hot.loss(logits, targets).sum().backward()
        optimizer.step()
    assert two_hot.mean(logits).tolist() == pytest.approx(targets.tolist(), rel=0.03, abs=0.02)


def test_zero_is_a_bin_and_targets_beyond_the_limit_are_clamped():
    two_hot = TwoHot(bins=41, limit=10.0)
    assert two_hot.centers[20] == 0
    logits = torch.zeros(41)
    assert torch.equal(two_hot.loss(logits, torch.tensor(1e6)), two_hot.loss(logits, torch.tensor(10.0)))


def test_symlog_is_odd_and_the_bins_are_evenly_spaced_in_it():
    two_hot = TwoHot(bins=41, limit=100.0)
    spacing = symlog(two_hot.centers).diff()
    assert torch.allclose(spacing, spacing[0].expand_as(spacing), atol=1e-5)


def make_heads() -> Heads:
    torch.manual_seed(0)
    return Heads(HeadsConfig(width=16, termination_weight=10.0), tokens=2, features=4, num_signals=2)


def test_untrained_heads_predict_nothing():
    heads = make_heads()
    out = heads(torch.randn(3, 5, 2, 4), torch.zeros(3, 5, 2))
    assert torch.allclose(heads.two_hot.mean(out.reward), torch.zeros(3, 5), atol=1e-4)
    assert out.signals.shape == (3, 5, 2, 81)


def test_the_probability_is_corrected_for_the_weight_of_the_loss():
    torch.manual_seed(0)
    heads = make_heads()
    ends = torch.zeros(1000, dtype=torch.bool)
    ends[:50] = True
    logit = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([logit], lr=0.2)
    out = heads(torch.zeros(1000, 2, 4), torch.zeros(1000, 2))
    for _ in range(120):
        optimizer.zero_grad()
        now = out._replace(termination=logit.expand(1000))
        heads.loss(now, torch.zeros(1000), ends, torch.zeros(1000, 2)).termination.mean().backward()
        optimizer.step()
    assert heads.termination_probability(now).mean().item() == pytest.approx(0.05, abs=0.005)


def test_the_end_depends_on_the_signals():
    heads = make_heads()
    torch.nn.init.normal_(heads.end_out.weight)
    outputs = torch.zeros(1, 2, 4)
    low, high = (heads(outputs, torch.tensor([[v, 0.0]])).termination for v in (1.0, 100.0))
    assert not torch.isclose(low, high)


def test_dropout_is_active_only_in_training():
    heads = Heads(HeadsConfig(width=16, dropout=0.5), tokens=2, features=4, num_signals=2)
    torch.nn.init.normal_(heads.reward.weight)
    given = torch.randn(3, 2, 4), torch.zeros(3, 2)
    assert not torch.equal(heads(*given).reward, heads(*given).reward)
    heads.eval()
    assert torch.equal(heads(*given).reward, heads(*given).reward)
    with pytest.raises(ValueError, match="dropout"):
        HeadsConfig(dropout=1.0)


def test_an_even_number_of_bins_is_refused():
    with pytest.raises(ValueError, match="odd"):
        HeadsConfig(bins=40)


# --- buffers that training sets


def trained_looking(**config) -> Heads:
    """Heads whose outputs depend on everything they read."""
    torch.manual_seed(0)
    heads = Heads(HeadsConfig(width=16, **config), tokens=2, features=4, num_signals=2)
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return heads


def test_without_calibration_and_range_outputs_follow_the_logits_exactly():
    heads = trained_looking()
    out, before = heads(torch.randn(50, 2, 4), torch.zeros(50, 2)), torch.rand(50, 2) * 100
    assert torch.equal(heads.termination_probability(out), torch.sigmoid(out.termination - torch.tensor(10.0).log()))
    assert torch.equal(heads.signals_after(out, before), before + heads.two_hot.mean(out.signals))


def test_the_calibration_scales_and_shifts_the_logit():
    heads = trained_looking()
    out = heads(torch.randn(50, 2, 4), torch.zeros(50, 2))
    raw = torch.logit(heads.termination_probability(out))
    heads.end_scale.fill_(0.5)
    heads.end_shift.fill_(2.0)
    assert torch.allclose(torch.logit(heads.termination_probability(out)), 0.5 * raw + 2.0, atol=1e-4)


def test_running_signals_stay_within_their_range():
    heads = trained_looking()
    out, before = heads(torch.randn(200, 2, 4), torch.zeros(200, 2)), torch.full((200, 2), 99.0)
    free = heads.signals_after(out, before)
    heads.signal_low.copy_(torch.tensor([98.0, -torch.inf]))
    heads.signal_high.copy_(torch.tensor([100.0, torch.inf]))
    assert free[:, 0].min() < 98 and free[:, 0].max() > 100  # otherwise there would be nothing to clamp
    bound = heads.signals_after(out, before)
    assert torch.equal(bound[:, 0], free[:, 0].clamp(98, 100)) and torch.equal(bound[:, 1], free[:, 1])


@pytest.mark.parametrize("reads", [True, False])
def test_reward_and_changes_depend_on_the_signals_if_they_are_read(reads):
    heads = trained_looking(read_signals=reads)
    tokens = torch.randn(1, 2, 4)
    low, high = (heads(tokens, torch.tensor([[v, 0.0]])) for v in (1.0, 100.0))
    assert torch.equal(low.reward, high.reward) is torch.equal(low.signals, high.signals) is (not reads)
    assert not torch.equal(low.termination, high.termination)


def test_the_ends_of_a_signals_range_are_distinguishable():
    heads = trained_looking()
    distances = heads._distances(torch.tensor([[100.0, 0.0], [92.0, 0.0]]))
    assert distances.isfinite().all()  # without a range too
    heads.signal_low.copy_(torch.tensor([0.0, 0.0]))
    heads.signal_high.copy_(torch.tensor([100.0, 5.0]))
    bound = heads._distances(torch.tensor([[100.0, 0.0], [92.0, 0.0]]))
    assert (distances[0] - distances[1]).abs().max() < 0.1 and (bound[0] - bound[1]).abs().max() > 2


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_game_without_signals_reads_none():
    heads = Heads(HeadsConfig(width=16), tokens=2, features=4, num_signals=0)
    assert heads(torch.randn(3, 2, 4), torch.zeros(3, 0)).reward.shape == (3, 81)


# --- signals that affect each other


def pushed(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A hand and an object on a line: signals before (N, 2), actions (N, 1), changes (N, 2)."""
    hand, thing, action = torch.rand(count), torch.rand(count), torch.rand(count) * 2 - 1
    ahead = (thing - hand).sign() == action.sign()
    touched = ((action / 2).abs() - (thing - hand).abs()).clamp_min(0) * ahead
    return torch.stack((hand, thing), 1), action[:, None], torch.stack((action / 2, touched * action.sign()), 1)


def error_of(layers: int) -> float:
    """Error of the object's change, as learned by heads without visual input, relative to predicting no change."""
    torch.manual_seed(0)
    config = HeadsConfig(width=64, bins=21, limit=1.0, signal_layers=layers)
    heads = Heads(config, tokens=2, features=4, num_signals=2, action_features=1)
    heads.signal_low.copy_(torch.zeros(2))
    heads.signal_high.copy_(torch.ones(2))
    optimizer = torch.optim.Adam(heads.parameters(), lr=1e-2)
    for _ in range(150):
        before, action, change = pushed(256)
        out = heads(torch.zeros(256, 2, 4), before, action)
        optimizer.zero_grad()
        heads.loss(out, torch.zeros(256), torch.zeros(256, dtype=torch.bool), change).signals.mean().backward()
        optimizer.step()
    before, action, change = pushed(2000)
    with torch.no_grad():
        after = heads.signals_after(heads(torch.zeros(2000, 2, 4), before, action), before)
    pushes = (before + change).clamp(0, 1)[:, 1] - before[:, 1]
    return ((after[:, 1] - before[:, 1] - pushes).square().mean() / pushes.square().mean()).item()


def test_pushing_is_learned_from_signals_and_action():
    assert error_of(layers=2) < 0.15
    assert error_of(layers=0) > 0.5  # no visual input here, and signals alone give the mean


def test_signals_are_scaled_by_their_range():
    """Metres and millimetres give the same; a signal that never changed or has no range does no harm."""
    heads = Heads(HeadsConfig(width=16, signal_layers=1), tokens=2, features=4, num_signals=2, action_features=1)
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    signals, action, tokens = torch.rand(5, 2), torch.rand(5, 1), torch.randn(5, 2, 4)
    assert heads(tokens, signals, action).signals.isfinite().all()
    results = []
    for unit in (1.0, 1000.0):
        heads.signal_low.copy_(torch.tensor([0.0, 3.0]))
        heads.signal_high.copy_(torch.tensor([unit, 3.0]))
        results.append(heads._changes_by_law(signals * torch.tensor([unit, 1.0]), action))
    assert torch.allclose(*results, atol=1e-4) and results[0].isfinite().all()
    assert not torch.equal(heads._changes_by_law(signals, -action), heads._changes_by_law(signals, action))


def test_a_negative_number_of_layers_is_refused():
    with pytest.raises(ValueError, match="signal_layers"):
        HeadsConfig(signal_layers=-1)


def drawn_heads() -> Heads:
    """Of 4 features of a token, the first 3 are known before the step is drawn."""
    torch.manual_seed(0)
    heads = Heads(HeadsConfig(width=16, ends="drawn"), tokens=2, features=4, num_signals=2, predicted=3)
    for parameter in heads.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return heads


def test_drawn_ends_and_what_they_pay_are_known_before_the_step():
    heads, signals = drawn_heads(), torch.rand(3, 2)
    tokens = torch.randn(3, 2, 4)
    base = heads(tokens, signals)
    tokens[..., 3] += 1  # the step that was drawn
    seen = heads(tokens, signals)
    for name in ("termination", "end_reward", "end_signals"):
        assert torch.equal(getattr(seen, name), getattr(base, name)), name
    for name in ("reward", "signals"):
        assert not torch.isclose(getattr(seen, name), getattr(base, name)).all(), name
    tokens[..., 2] += 1  # its prediction
    foreseen = heads(tokens, signals)
    for name in ("termination", "end_reward", "end_signals"):
        assert not torch.isclose(getattr(foreseen, name), getattr(seen, name)).all(), name


def test_rewards_and_changes_are_those_of_an_end_where_the_step_ended_the_episode():
    heads = drawn_heads()
    out = heads(torch.randn(3, 2, 4), torch.rand(3, 2))
    mean = heads.two_hot.mean
    ended = torch.tensor([True, False, True])
    assert torch.equal(heads.reward_mean(out, ended), torch.where(ended, mean(out.end_reward), mean(out.reward)))
    changes = torch.where(ended[:, None], mean(out.end_signals), mean(out.signals))
    assert torch.equal(heads.signals_after(out, torch.zeros(3, 2), ended), changes)
    half = (mean(out.end_reward) + mean(out.reward)) / 2  # an end that is as likely as not
    torch.testing.assert_close(heads.reward_mean(out, torch.full((3,), 0.5)), half)


def test_a_step_trains_only_the_heads_of_its_kind():
    heads = drawn_heads()
    tokens, signals, ended = torch.randn(4, 2, 4), torch.rand(4, 2), torch.tensor([True, False, False, True])
    losses = heads.loss(heads(tokens, signals), torch.ones(4), ended, torch.ones(4, 2))
    for steps, trained, still in (
        (ended, heads.ahead.reward, heads.reward),
        (~ended, heads.reward, heads.ahead.reward),
    ):
        heads.zero_grad()
        losses.reward[steps].sum().backward(retain_graph=True)
        assert trained.weight.grad.any() and (still.weight.grad is None or not still.weight.grad.any())
    for steps, trained, still in (
        (ended, heads.ahead.signals, heads.signals),
        (~ended, heads.signals, heads.ahead.signals),
    ):
        heads.zero_grad()
        losses.signals[steps].sum().backward(retain_graph=True)
        assert trained.weight.grad.any() and (still.weight.grad is None or not still.weight.grad.any())


def test_heads_without_signals_draw_ends_too(recwarn):
    heads = Heads(HeadsConfig(width=16, ends="drawn"), tokens=2, features=4, num_signals=0, predicted=3)
    assert heads(torch.randn(3, 2, 4), torch.zeros(3, 0)).termination.shape == (3,)
    assert not recwarn.list


@pytest.mark.parametrize("reads", [True, False])
def test_what_an_end_pays_depends_on_the_signals_only_if_they_may_be_read(reads):
    torch.manual_seed(0)
    config = HeadsConfig(width=16, ends="drawn", read_signals=reads)
    heads = Heads(config, tokens=2, features=4, num_signals=2, predicted=3)
    assert (heads.ahead.before is not None) == reads == (heads.before is not None)
