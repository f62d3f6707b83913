"""Who is at the wheel: the person at the page, the agent that was given, or a blind policy."""

from typing import Any

import numpy as np

from worldmodel.agents.blind.policies import scripted_policy
from worldmodel.agents.policy import Policy
from worldmodel.training.show.scenes import Scene

YOU, AGENT = "you", "agent"
BLIND = ("random", "sticky")  # blind policies that play anything


class Wheel:
    """Who plays while no key is held.

    Args:
        player: what the scenes' own policy is called.
    """

    def __init__(self, player: str = AGENT) -> None:
        self.who, self._player = YOU, player
        self._policies: dict[str, Policy] = {}

    def offers(self, scene: Scene) -> dict[str, str]:
        """Who may play, and what each is called."""
        own = {AGENT: self._player} if scene.has_policy else {}
        return {YOU: "you"} | own | {name: name for name in BLIND if name not in own.values()}

    def now(self, scene: Scene) -> str:
        """Who plays; you, where a scene has no agent."""
        return self.who if self.who in self.offers(scene) else YOU

    def give(self, who: str, scene: Scene) -> None:
        self.who = who
        self.begin(scene)

    def begin(self, scene: Scene) -> None:
        """An episode begins, or somebody else plays on."""
        self._policies = {name: scripted_policy(name, scene.action) for name in BLIND}
        for policy in self._policies.values():
            policy.seed_rows([0], [scene.seed])

    def action(self, scene: Scene, nothing: Any) -> Any:
        """What is done while no key is held; None: what the scene's own policy chooses."""
        return None if self.now(scene) == AGENT else self.blind_action(scene, nothing)

    def blind_action(self, scene: Scene, nothing: Any) -> Any:
        """The same in several futures at once, where the scene's policy cannot play."""
        who = self.now(scene)
        return self._policies[who].act(np.zeros((1, 1)))[0] if who in self._policies else nothing
