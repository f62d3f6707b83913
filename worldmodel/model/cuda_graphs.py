"""Dream steps as CUDA graphs: the kernels of a step are recorded once and then launched as a whole.

A step is about three hundred small operations; a GPU runs many of them faster than its host can launch them.
Not yet run on a GPU: tests replace `CudaGraphs` by a recorder for the CPU (decision 010). Off by default.

Letters: B rows, W window in steps.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from worldmodel.dynamics import DreamState
from worldmodel.layers.weight_cache import version_of
from worldmodel.model.checks import check_actions, check_state
from worldmodel.model.dreaming import Dreamer
from worldmodel.model.outputs import StepOut

_READ = ("codes", "signals", "seeds", "counter")  # inputs of a step in a state, besides its cache
_RETURNED = ("codes", "reward", "terminated", "termination_probability", "signals", "nll", "entropy", "outputs")


class Recorded(NamedTuple):
    """A recorded step that can be repeated on the same memory."""

    repeat: Callable[[], None]
    out: StepOut  # every repetition overwrites its tensors


class Recorder(Protocol):
    """Records steps; one recorder for all recordings of a dream."""

    def __init__(self, device: torch.device) -> None: ...

    def __call__(self, once: Callable[[], object], step: Callable[[], StepOut]) -> Recorded:
        """Run `once` as a warm-up for the libraries, then record what `step` launches, without running it."""


class CudaGraphs:
    """Records CUDA graphs, which share the memory of their intermediate results."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            # A separate stream and pool: libraries keep workspaces per stream, and a pool ends with its last graph.
            self._stream, self._pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def __call__(self, once: Callable[[], object], step: Callable[[], StepOut]) -> Recorded:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            callers = torch.cuda.current_stream()
            self._stream.wait_stream(callers)
            with torch.cuda.stream(self._stream):
                once()
            callers.wait_stream(self._stream)
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                out = step()
        return Recorded(graph.replay, out)


class GraphedSteps:
    """`WorldModel.step` with the same results, and its arguments without `draw_ends`, repeated from recordings.

    One dream at a time: it has its own memory, and a state made by another step is copied there. That makes
    earlier states stepped here invalid; the copied state stays valid.

    There is one recording for each position in the cache's ring, and further ones while the ring fills and while rows
    see less than it holds. All are made again when the temperature, the number of rows or a weight changes. (A tensor
    of the model that is replaced by another one, as `load_state_dict(assign=True)` does, goes unnoticed.)

    Raises:
        ValueError: the model is not on a GPU. Or its dynamics cannot be recorded. Or its context is limited: only the
            host can decide when a full context restarts.
    """

    def __init__(self, model: Dreamer, recorder: type[Recorder] = CudaGraphs) -> None:
        if model.dynamics.cannot_record:
            raise ValueError(f"steps of these dynamics cannot be recorded as graphs: {model.dynamics.cannot_record}")
        if recorder is CudaGraphs and model.device.type != "cuda":
            raise ValueError(f"graphs need a GPU, the model is on {model.device}; leave graphs out")
        if model.config.dynamics.limited:
            raise ValueError(
                "steps of a model whose context is limited cannot be recorded: whether one is full has to be asked at "
                "every step. Train with position='rotary-time', or leave graphs out"
            )
        self._model, self._recorder = model, recorder
        self._weights = [*model.parameters(), *model.buffers()]
        self._made_for: tuple = ()
        self._held: tuple[DreamState, Tensor] | None = None  # the state and action that recordings read and write
        self._record: Recorder
        self._recorded: dict[tuple, Recorded] = {}

    @torch.inference_mode()
    def step(
        self, state: DreamState, action: Tensor | np.ndarray, temperature: float = 1.0
    ) -> tuple[DreamState, StepOut]:
        """Dream one step of every row, as `WorldModel.step`."""
        state = check_state(self._model, state)
        action = check_actions(self._model, action, (len(state),))
        held, held_action = self._hold(state, action, temperature)
        cache = held.cache
        # Everything that the host decides in a step.
        key = (cache.clock % cache.window, cache.slots, cache.all_visible, cache.shortest <= 0)
        if key not in self._recorded:
            self._recorded[key] = self._recording(held, held_action, temperature)
            self._made_for = self._now(temperature)  # caches of weights may have been filled just now
        repeat, out = self._recorded[key]
        repeat()
        cache.tick()
        out = replace(out, **{name: getattr(out, name).clone() for name in _RETURNED})
        return DreamState(
            cache,
            out.codes,
            out.outputs,
            out.signals,
            state.seeds,
            state.counter + 1,
            cache.clock,
            dict(state.extras),
            self._model,
        ), out

    def _hold(self, state: DreamState, action: Tensor, temperature: float) -> tuple[DreamState, Tensor]:
        """Copy both to the memory that the recordings use."""
        now = self._now(temperature)
        if self._held is None or len(self._held[1]) != len(action) or self._made_for != now:
            self._recorded.clear()  # before their memory is allocated again
            self._record = self._recorder(self._model.device)
            self._made_for, self._held = now, (state.clone(), action.clone())
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

    def _now(self, temperature: float) -> tuple:
        """Key of valid recordings: the temperature and the versions of the weights and of their caches."""
        kept = (derived.changes for derived in self._model.dynamics.derived)
        return temperature, *kept, *version_of(self._weights)

    def _recording(self, held: DreamState, action: Tensor, temperature: float) -> Recorded:
        copy, cache = held.clone(), held.cache
        clock, shortest = cache.clock, cache.shortest
        try:
            return self._record(
                lambda: self._model.step(copy, action, temperature),
                lambda: self._model.step(replace(held), action, temperature)[1],
            )
        finally:
            cache.clock, cache.shortest = clock, shortest  # it has only been recorded
