"""World models: `WorldModel`, its config, and the batches and starts that it reads."""

from worldmodel.model.batches import CodeBatch, Starts
from worldmodel.model.network import WorldModelConfig
from worldmodel.model.world_model import WorldModel

__all__ = ["CodeBatch", "Starts", "WorldModel", "WorldModelConfig"]
