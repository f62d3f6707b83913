"""What the card of a world model says without any measurement: its game, and how to dream of it."""

from collections.abc import Sequence

from worldmodel.cards import model_card
from worldmodel.data import ActionSpec
from worldmodel.model.network import WorldModelConfig


def game_text(action: ActionSpec, signals: Sequence[str], reward: str) -> str:
    """A game's actions, signals and reward."""
    kind = "one of" if action.kind == "discrete" else "numbers,"
    actions = ", ".join(action.names) or f"{kind} {action.n}"
    return f"Actions: {actions}. Signals: {', '.join(signals) or 'none'}. Reward: {reward}."


def plain_card(config: WorldModelConfig) -> str:
    """The card of a model without measurements."""
    game = game_text(config.action, config.signal_names, config.reward)
    text = f"# World model of {config.env_id or 'a game'}\n\nLearned from video by VideoGenDream.\n\n{game}\n"
    return model_card("world_model", text, game=config.env_id)
