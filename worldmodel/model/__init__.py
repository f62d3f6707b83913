"""World models: `WorldModel`, its config, and the batches and starts that it reads."""

from worldmodel.model.batches import CodeBatch, Starts
from worldmodel.model.world_model import WorldModel, WorldModelConfig

__all__ = ["CodeBatch", "Starts", "WorldModel", "WorldModelConfig"]
