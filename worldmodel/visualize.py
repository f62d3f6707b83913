"""Visualisation of world models in notebooks: `videogen-dream show` as functions (docs/show.md).

The functions return storyboards. A notebook displays one as a sheet; `.film()` plays it, `.save("dream.gif")` writes
it, and `.story` has the frames, rewards, surprise and actions as arrays.
"""

from worldmodel.training.show.beside import players
from worldmodel.training.show.kinds import futures, rollout, same_actions
from worldmodel.training.show.lanes import Lane, Story
from worldmodel.training.show.settings import ShowConfig
from worldmodel.training.show.show import show
from worldmodel.training.show.storyboard import Film, Storyboard

__all__ = ["Film", "Lane", "ShowConfig", "Story", "Storyboard", "futures", "players", "rollout", "same_actions", "show"]
