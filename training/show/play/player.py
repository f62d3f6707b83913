"""Who controls a scene: the person at the page, the given agent, or a blind policy."""

from typing import Any

import numpy as np

from worldmodel.agents.blind.policies import scripted_policy
from worldmodel.agents.policy import Policy
from worldmodel.training.show.scenes import Scene

YOU, AGENT = "you", "agent"
BLIND = ("random", "sticky")  # blind policies that can play any game


class Wheel:
    """Chooses who plays while no key is held.

    Args:
        player: name of the scenes' own policy.
    """

    def __init__(self, player: str = AGENT) -> None:
        self.who, self._player = YOU, player
        self._policies: dict[str, Policy] = {}
        self._scene: Scene | None = None  # whose actions they take

    def offers(self, scene: Scene) -> dict[str, str]:
        """The possible players and their labels."""
        own = {AGENT: self._player} if scene.has_policy else {}
        return {YOU: "you"} | own | {name: name for name in BLIND if name not in own.values()}

    def now(self, scene: Scene) -> str:
        """The current player; the person if the chosen one is not available in this scene."""
        return self.who if self.who in self.offers(scene) else YOU

    def give(self, who: str, scene: Scene) -> None:
        self.who = who
        self.begin(scene)

    def begin(self, scene: Scene) -> None:
        """Reset the blind policies, for a new episode or another player."""
        self._scene = scene
        self._policies = {name: scripted_policy(name, scene.action) for name in BLIND}
        for policy in self._policies.values():
            policy.seed_rows([0], [scene.seed])

    def action(self, scene: Scene, nothing: Any) -> Any:
        """The action while no key is held; None: let the scene's own policy choose."""
        return None if self.now(scene) == AGENT else self.blind_action(scene, nothing)

    def blind_action(self, scene: Scene, nothing: Any) -> Any:
        """The same for several futures at once, in which the scene's policy cannot play."""
        who = self.now(scene)
        if self._scene is not scene:  # back in another world
            self.begin(scene)
        return self._policies[who].act(np.zeros((1, 1)))[0] if who in self._policies else nothing
