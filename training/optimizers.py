"""The optimisers of a model: Muon for the weights between hidden layers, AdamW for the rest."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from worldmodel.layers.precision import fast_dtype


def make_optimizers(
    model: nn.Module, learning_rate: float, weight_decay: float, beta2: float, hidden: Sequence[nn.Parameter] = ()
) -> list[torch.optim.Optimizer]:
    """Muon for the `hidden` weights, AdamW (0.9, `beta2`) for the rest; weight decay on matrices and kernels only.

    Muon makes all directions of an update equally large, so that rare inputs (an action's) are learned early. Its steps
    are scaled to the size of AdamW's (arXiv:2502.16982), so one learning rate serves both.
    """
    chosen = {id(p) for p in hidden}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, beta2), fused=True)
    ]
    if hidden:
        optimizers.append(_muon(hidden, learning_rate, weight_decay))
    return optimizers


def _muon(weights: Sequence[nn.Parameter], learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Muon, which takes matrices only, on views of the weights as matrices.

    torch's own multiplies in bfloat16; where that is slow, `Float32Muon` does the same in float32.
    """
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(
            f"torch {torch.__version__} has no Muon; install torch>=2.9, or train with AdamW alone (--no-muon)"
        )
    matrices = [nn.Parameter(_matrix(weight.detach(), weight)) for weight in weights]
    for weight, matrix in zip(weights, matrices, strict=True):
        if matrix.data_ptr() != weight.data_ptr():
            raise ValueError(f"no view of a weight {tuple(weight.shape)} with strides {weight.stride()} is a matrix")
    kind: type[torch.optim.Muon] = torch.optim.Muon
    if fast_dtype(weights[0].device) != torch.bfloat16:
        from worldmodel.training.float32_muon import Float32Muon  # needs a torch that has Muon

        kind = Float32Muon
    muon = kind(matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    def show_gradients(*_) -> None:
        for weight, matrix in zip(weights, matrices, strict=True):
            matrix.grad = None if weight.grad is None else _matrix(weight.grad, weight)

    muon.register_step_pre_hook(show_gradients)
    return muon


def _matrix(x: Tensor, weight: Tensor) -> Tensor:
    """A tensor of the weight's shape (rows, …) as a matrix, its columns in the order in which the weight lies."""
    channels_last = not weight.is_contiguous()
    return (x.movedim(1, -1) if channels_last else x).flatten(1)
