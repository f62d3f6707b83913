import numpy as np
import pytest
import torch

from tests.clips import CLIP, clip_tokenizer
from tests.training.recorded import recorded_store
from worldmodel.training.code_segments import ClipStore, CodeStore, split_codes
from worldmodel.training.encode_store import clip_starts


@pytest.fixture
def store(tmp_path):
    return recorded_store(tmp_path / "data", lengths=(40, 9, 3, 17) * 8)


def test_segments_stay_inside_their_episode_and_reach_its_end(codes, store):
    batch = codes.batch(2000, 6, np.random.default_rng(0))
    marks = batch.codes[:, :, 0, 0, 0]
    assert (marks // 100 == marks[:, :1] // 100).all()
    real = batch.padding_mask
    assert (marks.diff(dim=1)[real] == 1).all() and not marks.diff(dim=1)[~real].any()
    seen = {int(m) for m in marks.unique()}
    assert seen == {100 * e + t for e in codes.episodes for t in range(store.lengths[e] + 1)}


def test_the_last_step_of_an_episode_is_drawn_as_often_as_those_before_it(codes, store):
    batch = codes.batch(40_000, 6, np.random.default_rng(0))
    drawn = batch.codes[:, :-1, 0, 0, 0][batch.padding_mask].bincount(minlength=3200)
    for episode in codes.episodes:
        last = store.lengths[episode] - 1
        if last >= 16:  # behind the first five steps, which fewer segments hold
            around = drawn[100 * episode + 5 : 100 * episode + last + 1].float()
            assert drawn[100 * episode + last] == pytest.approx(around.mean().item(), rel=0.25)


def test_the_parts_of_a_step_stay_together(codes, store):
    batch = codes.batch(64, 6, np.random.default_rng(1))
    for row in range(64):
        for t in range(6):
            if batch.padding_mask[row, t]:
                episode, step = divmod(int(batch.codes[row, t]), 100)
                assert batch.actions[row, t] == store.actions(episode)[step]
                assert batch.rewards[row, t] == store.rewards(episode)[step]
                assert batch.signals[row, t] == store.signals(episode)[step]
                assert batch.terminated[row, t] == (step == store.lengths[episode] - 1)


def test_rare_rewards_are_drawn_more_often(store):
    marks = [torch.zeros(n + 1, 1, 1, 1, dtype=torch.int16) for n in store.lengths]
    codes = CodeStore(store, marks, "train")
    codes.events = np.array([int(codes.offsets[0]) + 20])  # one step of an episode of 40
    codes.rewards = torch.zeros_like(codes.rewards)
    codes.rewards[codes.events] = 1.0
    shares = [
        codes.batch(2000, 6, np.random.default_rng(0), share).rewards.sum(1).mean().item() for share in (0.0, 0.5)
    ]
    assert shares[0] < 0.05 and shares[1] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("step", [1, 39])
def test_segments_around_a_rare_reward_at_the_edge_of_an_episode_stay_in_it(codes, store, step):
    place = max(i for i, e in enumerate(codes.episodes) if store.lengths[e] == 40)
    codes.events = np.array([int(codes.offsets[place]) + step])
    batch = codes.batch(500, 6, np.random.default_rng(0), 1.0)
    marks = batch.codes[:, :, 0, 0, 0]
    assert (marks // 100 == codes.episodes[place]).all()
    assert ((marks[:, :-1] % 100 == step) & batch.padding_mask).any(1).all()


def test_first_frames_are_those_of_the_segment(store):
    marks = [torch.arange(n + 1).view(-1, 1, 1, 1) + 100 * e for e, n in enumerate(store.lengths)]
    batch = CodeStore(store, marks, "train", frame_steps=2).batch(32, 6, np.random.default_rng(0))
    assert batch.frames.shape == (32, 2, 2, 16, 16, 3) and batch.frames.dtype == torch.uint8
    brightness = 2 * (batch.codes[:, :2, 0, 0, 0] % 100)  # step t of an episode is a flat image of brightness 2 t
    assert (batch.frames == brightness[:, :, None, None, None, None]).all()


# --- codes of single steps and of clips alike


def marked_clips(store, stride=2):
    """Codes of the clips of every episode; each step's show where it comes from, as in `codes`."""
    starts = [clip_starts(n, CLIP, stride) for n in store.lengths]
    marks = [torch.from_numpy(s)[:, None] + torch.arange(CLIP) + 100 * e for e, s in enumerate(starts)]
    return [m.view(*m.shape, 1, 1, 1).to(torch.int16) for m in marks]


@pytest.fixture
def clips(store):
    return ClipStore(store, marked_clips(store), "train", frame_steps=1, stride=2)


def test_every_clip_is_drawn_and_a_segment_is_one_clip(clips, store):
    batch = clips.batch(3000, CLIP - 1, np.random.default_rng(0))
    marks = batch.codes[:, :, 0, 0, 0]
    assert (marks.diff(dim=1) == 1).all() and batch.padding_mask.all()
    wanted = {100 * e + s for e in clips.episodes for s in clip_starts(store.lengths[e], CLIP, 2).tolist()}
    assert set(marks[:, 0].tolist()) == wanted


def test_the_parts_of_a_step_stay_together_in_clips(clips, store):
    batch = clips.batch(64, CLIP - 1, np.random.default_rng(1))
    for row in range(64):
        for t in range(CLIP - 1):
            episode, step = divmod(int(batch.codes[row, t]), 100)
            assert batch.actions[row, t] == store.actions(episode)[step]
            assert batch.rewards[row, t] == store.rewards(episode)[step]
            assert batch.signals[row, t] == store.signals(episode)[step]
            assert batch.terminated[row, t] == (step == store.lengths[episode] - 1)
        assert (batch.frames[row] == 2 * (int(batch.codes[row, 0]) % 100)).all()  # brightness is twice the step


def test_clips_around_a_rare_reward_are_drawn_more_often_and_all_of_them(store):
    rewards = {e: store.rewards(e) for e in range(len(store))}
    chosen = int(store.split("train")[0])

    class Rare(type(store)):
        def rewards(self, episode):
            return (np.arange(len(rewards[episode])) == 20) * np.float32(episode == chosen)

    rare = ClipStore(Rare.open(store.root), marked_clips(store, stride=1), "train", stride=1)
    batches = [rare.batch(2000, CLIP - 1, np.random.default_rng(0), share) for share in (0.0, 0.5, 1.0)]
    shares = [batch.rewards.sum(1).mean().item() for batch in batches]
    assert shares[0] < 0.05 and shares[1:] == pytest.approx([0.5, 1.0], abs=0.05)
    drawn = batches[-1].codes[:, 0, 0, 0, 0].unique()
    assert drawn.tolist() == [100 * chosen + start for start in (18, 19, 20)]


@pytest.mark.parametrize("kind", ["steps", "clips"])
def test_every_step_that_a_segment_holds_counts_once(codes, clips, store, kind):
    segments, shortest = (codes, 1) if kind == "steps" else (clips, CLIP - 1)
    batch = segments.every_step(6 if kind == "steps" else CLIP - 1)
    counted = batch.codes[:, :-1, 0, 0, 0][batch.padding_mask].tolist()
    wanted = [100 * e + t for e in segments.episodes for t in range(store.lengths[e]) if store.lengths[e] >= shortest]
    assert sorted(counted) == wanted


def test_episodes_shorter_than_a_clip_are_left_out_and_counted(tmp_path):
    store = recorded_store(tmp_path / "short", lengths=(2, 9) * 10)
    clips = ClipStore(store, marked_clips(store), "train", stride=2)
    assert clips.left_out == sum(store.lengths[e] == 2 for e in clips.episodes) > 0
    short = recorded_store(tmp_path / "none", lengths=(2,) * 10)
    with pytest.raises(ValueError, match=r"no episode of the train split is as long as a clip of 4 steps.* has 3"):
        ClipStore(short, marked_clips(short), "train", stride=2)


def test_a_segment_of_another_length_than_a_clip_is_refused(clips):
    with pytest.raises(ValueError, match="a clip of 4 steps, which has 3 after its first; got 5"):
        clips.batch(2, 5, np.random.default_rng(0))


@pytest.mark.parametrize("temporal", ["clip", "causal"])
def test_the_tokenizer_decides_the_kind_of_codes(store, temporal):
    assert isinstance(split_codes(store, marked_clips(store), "train", clip_tokenizer(temporal), stride=2), ClipStore)
