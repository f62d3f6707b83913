import random

import numpy as np
import torch

from worldmodel.agents.sb3.generators import restored_generators


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_draws_inside_do_not_affect_draws_outside():
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


def test_generators_are_restored_after_an_error_too():
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
