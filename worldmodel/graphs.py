"""Dream steps as CUDA graphs: what a step launches is recorded once, and from then on launched as a whole.

A step is some three hundred small operations; a GPU runs many of them faster than its host can launch them.

Letters: B rows, W window in steps.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel import dreaming
from worldmodel.dreaming import StepOut
from worldmodel.dynamics import DreamState
from worldmodel.layers.derived import state_of
from worldmodel.model import WorldModel

_READ = ("codes", "signals", "seeds", "counter")  # what a step reads of a state, besides its cache
_TOLD = ("codes", "reward", "terminated", "termination_probability", "signals", "nll", "entropy", "outputs")


class Recorded(NamedTuple):
    """A step that can be repeated, on the same memory."""

    repeat: Callable[[], None]
    out: StepOut  # its tensors are written over by every repetition


Recorder = Callable[[Callable[[], StepOut]], Recorded]


class CudaGraphs:
    """Records what a step launches, without running it. The recordings share the memory of what they do not return."""

    def __init__(self) -> None:
        self._pool: Any = None  # torch has no public name for its type

    def __call__(self, step: Callable[[], StepOut]) -> Recorded:
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            out = step()
        return Recorded(graph.replay, out)


class GraphedSteps:
    """`WorldModel.step` with the same arguments and results, repeated from recordings.

    It dreams in memory of its own: a state that another step made is copied there first. One recording is made for each
    place in the cache's ring, temperature, and number of steps that the youngest row holds (at most W): so W of them
    for dreams that go on for long. They are made anew when the number of rows or a weight changes.

    Raises:
        ValueError: the model's context is limited. A full one begins again, which only the host can decide.
    """

    def __init__(self, model: WorldModel, record: Recorder | None = None) -> None:
        """`record` makes a recording of a step; None: a CUDA graph."""
        if model.config.dynamics.limited:
            raise ValueError(
                "steps of a model whose context is limited cannot be recorded: whether one is full has to be asked at "
                "every step. Train with position='rotary-time', or leave graphs out"
            )
        self._model, self._record = model, record or CudaGraphs()
        self._weights = [*model.parameters(), *model.buffers()]
        self._made_with: tuple | None = None  # which weights
        self._held: tuple[DreamState, Tensor] | None = None  # the state and action that recordings read and write
        self._recorded: dict[tuple, Recorded] = {}

    @torch.inference_mode()
    def step(
        self, state: DreamState, action: Tensor | np.ndarray, temperature: float = 1.0
    ) -> tuple[DreamState, StepOut]:
        """Dream one step of every row, as `WorldModel.step`."""
        state.check_fresh()
        action = dreaming.check_actions(self._model, action, (len(state),))
        held, held_action = self._hold(state, action)
        cache = held.cache
        key = (cache.clock % cache.window, cache.unbroken, cache.shortest, temperature)
        if key not in self._recorded:
            self._recorded[key] = self._recording(held, held_action, temperature)
        repeat, out = self._recorded[key]
        repeat()
        cache.tick()
        out = replace(out, **{name: getattr(out, name).clone() for name in _TOLD})
        return DreamState(
            cache, out.codes, out.outputs, out.signals, state.seeds, state.counter + 1, cache.clock, dict(state.extras)
        ), out

    def _hold(self, state: DreamState, action: Tensor) -> tuple[DreamState, Tensor]:
        """The values of both in the memory that recordings know."""
        weights = state_of(self._weights)
        if self._held is None or len(self._held[1]) != len(action) or self._made_with != weights:
            self._recorded.clear()  # before their memory is taken anew
            self._made_with, self._held = weights, (state.clone(), action.clone())
            held = self._held[0]
        else:
            held = self._held[0]
            if state.cache is not held.cache:
                held.cache = held.cache.overwritten(state.cache)
            for name in _READ:
                getattr(held, name).copy_(getattr(state, name))
            if "frames" in held.extras:
                held.extras["frames"].copy_(state.extras["frames"])
            self._held[1].copy_(action)
        held.clock = held.cache.clock
        return self._held

    def _recording(self, held: DreamState, action: Tensor, temperature: float) -> Recorded:
        def step() -> StepOut:
            return self._model.step(replace(held), action, temperature)[1]

        self._model.step(held.clone(), action, temperature)  # once as usual: libraries prepare what they need
        clock, shortest = held.cache.clock, held.cache.shortest
        recorded = self._record(step)
        held.cache.clock, held.cache.shortest = clock, shortest  # it has only been recorded
        return recorded
