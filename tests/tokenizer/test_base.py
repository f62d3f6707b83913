"""What all tokenizers share."""

from collections import Counter

import pytest
import torch

from tests.tokenizer import test_frame_vqvae, test_hierarchical, test_vqvae
from worldmodel.tokenizer import base

NETS = {
    "steps": lambda: test_vqvae.make_mode("step"),
    "clips": lambda: test_vqvae.make_mode("clip"),
    "frames": lambda: test_frame_vqvae.make_net(2),
    "levels": test_hierarchical.make_net,
}


@pytest.mark.parametrize("kind", NETS)
def test_memory_does_not_grow_with_the_number_of_videos(kind, monkeypatch):
    net = NETS[kind]()
    config, steps = net.config, getattr(net.config, "clip_steps", 3)
    shape = 5, steps, config.frames_per_step, config.height, config.width, config.channels
    frames = torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    codes = net.encode(frames)
    decoded, calls = net.decode(codes), Counter()

    def noted(name):
        run = getattr(type(net), name)

        def counting(self, *args):
            calls[name] += 1
            return run(self, *args)

        return counting

    encoder = "_features" if kind == "levels" else "_latents"
    for name in (encoder, "_pixels"):
        monkeypatch.setattr(type(net), name, noted(name))
    alone = kind in ("steps", "frames")  # otherwise a clip is the least that can be coded
    pixels = config.frames_per_step * config.height * config.width * (1 if alone else steps)
    monkeypatch.setattr(base, "_AT_ONCE", 2 * pixels)
    assert torch.equal(net.encode(frames), codes) and torch.equal(net.decode(codes), decoded)
    samples = 5 * steps if alone else 5
    assert calls == {encoder: -(-samples // 2), "_pixels": -(-samples // 2)}
