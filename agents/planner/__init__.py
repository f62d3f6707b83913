"""A planner that searches for actions inside the dream."""

from worldmodel.agents.planner.config import PlannerConfig
from worldmodel.agents.planner.planner import Planner

__all__ = ["Planner", "PlannerConfig"]
