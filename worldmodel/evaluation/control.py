"""Control: whether dreams do what their actions say, as read by an inverse-dynamics network.

Letters: K dreams, T context and dreamt steps, A dimensions of an action, E features, F frames of a step, H W C pixels.
"""

from typing import Any

from torch import Tensor

from worldmodel.evaluation.inverse_dynamics import InverseDynamics, action_score, blind_score, read
from worldmodel.evaluation.open_loop import Dreams, dream_on, swapped_actions
from worldmodel.model import WorldModel


def control_videos(wm: WorldModel, dreams: Dreams, temperature: float, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """The frames and actions that `control_scores` compares.

    Returns: "real", "reconstruction", "dream" and, for models with action conditioning, "dream_swapped": dreams from
    the same starts with the actions of another row.
    """
    actions, given = dreams.batch.actions, dreams.context_steps
    videos = {
        "real": (dreams.real, actions),
        "reconstruction": (dreams.reconstruction, actions),
        "dream": (dreams.dream, actions),
    }
    if wm.config.dynamics.action_condition != "none":
        swapped = swapped_actions(dreams.batch, given)
        videos["dream_swapped"] = dream_on(wm, dreams.batch, swapped, given, temperature, seed), swapped
    return videos


def control_scores(
    model: InverseDynamics, videos: dict[str, tuple[Tensor, Tensor]], context_steps: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """How well an inverse-dynamics network predicts the actions in several videos.

    Args:
        videos: name -> frames (K, T, F, H, W, C) uint8 and the actions (K, T-1) or (K, T-1, A) between their steps.
            "real" and "dream" are required.
        context_steps: context steps; only transitions into later steps count. 0: all transitions.

    Returns: the scores, overall and by step, and the features (K * (T - context_steps), E) of each video.
    """
    action, first = model.action, max(context_steps - 1, 0)
    scores: dict[str, Any] = {"measure": "accuracy" if action.kind == "discrete" else "r2"}
    features, curves = {}, {}
    for name, (frames, actions) in videos.items():
        predictions, features[name] = read(model, frames[:, first:])
        truth = actions[:, first:]
        scores[name] = action_score(action, predictions, truth.flatten(0, 1))
        by_step = predictions.unflatten(0, truth.shape[:2])
        curves[name] = [action_score(action, by_step[:, t], truth[:, t]) for t in range(truth.shape[1])]
    actions = videos["real"][1][:, first:].flatten(0, 1)
    scores["transitions"], scores["blind"] = len(actions), blind_score(action, actions)
    scores["dream_over_real"] = scores["dream"] / scores["real"] if scores["real"] > 0 else None
    # Errors are wrong actions, or squared distances to box actions: both are proportional to 1 - score.
    scores["error_over_real"] = (1 - scores["dream"]) / (1 - scores["real"]) if scores["real"] < 1 else None
    return scores | {"by_step": curves}, features
