import pytest
import torch

from worldmodel.layers.streaming import Stream, StreamState


def test_a_stream_begins_with_zeros():
    stream = Stream(None)
    x = torch.ones(1, 2, 3, 4, 4)
    joined = stream.join(x, 2)
    assert torch.equal(joined[:, :, 2:], x) and not joined[:, :, :2].any()


def test_the_past_comes_back_in_order_and_may_span_several_steps():
    steps = torch.arange(4.0).view(1, 1, 4, 1, 1)
    state = None
    for t in range(3):
        stream = Stream(state)
        stream.join(steps[:, :, t : t + 1], 3)
        state = stream.state()
    assert state.tensors[0].flatten().tolist() == [0, 1, 2]


def test_a_state_stays_as_it_is():
    state = StreamState((torch.zeros(1, 1, 2, 1, 1),))
    stream = Stream(state)
    x = stream.join(torch.ones(1, 1, 2, 1, 1), 2)
    x.add_(1)
    assert not state.tensors[0].any()
    assert stream.state().tensors[0].eq(1).all()  # nor does the new one follow what is done to the output


def test_the_state_of_other_rows_is_refused():
    with pytest.raises(ValueError, match=r"must be \(2, 1, 2, 1, 1\), got \[\(1, 1, 2, 1, 1\)\]"):
        Stream(StreamState((torch.zeros(1, 1, 2, 1, 1),))).join(torch.ones(2, 1, 1, 1, 1), 2)


def test_a_state_of_another_size_is_refused():
    x = torch.ones(1, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="got none"):
        Stream(StreamState()).join(x, 1)
    stream = Stream(StreamState((x, x)))
    stream.join(x, 1)
    with pytest.raises(ValueError, match="must hold 1 tensors, got 2"):
        stream.state()
