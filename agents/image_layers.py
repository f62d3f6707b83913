"""Networks shared by the agents of several libraries.

Letters: n images, H W C one image.
"""

from torch import nn


def image_layers(height: int, width: int, depth: int, channels: int, features: int) -> nn.Sequential:
    """Three convolutions and a linear layer: images (n, C, H, W), H and W divisible by 16 -> (n, features).

    Args:
        depth: C, including all stacked frames.
        channels: of the first convolution; the others have twice as many.
    """
    if height % 16 or width % 16:
        raise ValueError(f"frames must have sides divisible by 16, got {height} x {width}")
    return nn.Sequential(
        nn.Conv2d(depth, channels, 4, stride=4),
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * channels, 2 * channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * channels * (height // 16) * (width // 16), features),
        nn.ReLU(),
    )
