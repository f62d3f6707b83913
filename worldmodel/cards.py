"""Model cards: the README.md of a checkpoint, with the YAML front matter that the Hugging Face hub reads."""

from collections.abc import Sequence

LIBRARY = "videogen-dream"
# The hub's task, and its tags, by kind of checkpoint (the hub has no task for video tokenizers).
_ABOUT: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "world_model": ("reinforcement-learning", ("world-model", "video-prediction", "gymnasium")),
    "tokenizer": (None, ("video-tokenizer", "vq-vae")),
    "agent": ("reinforcement-learning", ("deep-reinforcement-learning", "gymnasium")),
}


def model_card(
    kind: str, text: str, *, game: str = "", license: str | None = None, datasets: Sequence[str] = ()
) -> str:
    """The whole card: front matter and `text`.

    Args:
        kind: "world_model", "tokenizer" or "agent".
        text: Markdown.
        game: env id; added as a tag, as is customary for models of games.
        license: the hub's identifier, such as "mit" or "cc-by-4.0"; None leaves it open.
        datasets: ids of data sets on the hub.
    """
    from huggingface_hub import ModelCard, ModelCardData

    task, tags = _ABOUT[kind]
    about = ModelCardData(
        license=license,
        library_name=LIBRARY,
        pipeline_tag=task,
        tags=[*tags, *([game] if game else [])],
        datasets=list(datasets) or None,
    )
    return str(ModelCard(f"---\n{about.to_yaml()}\n---\n\n{text}"))
