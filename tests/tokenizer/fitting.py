"""What every tokenizer must do in training: fit one batch."""

import torch

from worldmodel.tokenizer import Tokenizer


def check_that_one_batch_is_fitted(
    tokenizer: Tokenizer, frames: tuple[int, ...], codes: tuple[int, ...], steps: int
) -> None:
    """Six plain steps of different brightness, (2, 3, *frames): their NMSE halves, and codes have this shape."""
    tokenizer.train()
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=1e-2)
    flat = torch.arange(0, 240, 40, dtype=torch.uint8).view(2, 3, 1, 1, 1, 1).expand(2, 3, *frames)
    losses = []
    for _ in range(steps):
        loss = tokenizer.loss(flat)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.nmse.item())
    assert loss.codes.shape == codes
    assert min(losses[-10:]) < 0.5 * losses[0]
