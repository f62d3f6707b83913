import random

import numpy as np
import torch

from worldmodel.agents.sb3.generators import restored_generators


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_what_is_drawn_inside_is_not_missed_outside():
    with restored_generators():  # leaves this test's own traces nowhere
        with restored_generators(3):
            expected = draw()
        with restored_generators(3):
            assert draw() == expected
            inner = draw()
            with restored_generators(4):
                assert not set(draw()) & {*expected, *inner}
            after = draw()
        with restored_generators(3):
            assert [draw() for _ in range(3)] == [expected, inner, after]


def test_an_error_inside_gives_them_back_too():
    with restored_generators(3):
        expected = draw()
    with restored_generators(3):
        try:
            with restored_generators():
                draw()
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        assert draw() == expected
