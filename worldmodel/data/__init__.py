"""Floor 1: recorded episodes, segments cut from them, and the store that holds them."""

from worldmodel.data.episode import ActionSpec, Batch, Episode, Segment, SegmentId, StoreInfo
from worldmodel.data.joined import JoinedStorage, open_stores
from worldmodel.data.storage import EpisodeStorage

__all__ = [
    "ActionSpec",
    "Batch",
    "Episode",
    "EpisodeStorage",
    "JoinedStorage",
    "Segment",
    "SegmentId",
    "StoreInfo",
    "open_stores",
]
