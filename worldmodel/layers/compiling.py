"""torch.compile, and functions that it leaves alone.

`torch.compiler.disable` imports the compiler, which doubles the time that a program takes to start. Functions are
therefore only marked when they are defined, and excluded once something is compiled.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

_P = ParamSpec("_P")
_R = TypeVar("_R")

_excluders: list[Callable[[], None]] = []


def uncompiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Mark a function that `compiled` must not trace, such as one with a cache."""
    called = function

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return called(*args, **kwargs)

    def exclude() -> None:
        nonlocal called
        called = torch.compiler.disable(function)

    _excluders.append(exclude)
    return call


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """`torch.compile(function)`, which runs functions marked `uncompiled` as they are."""
    for exclude in _excluders:
        exclude()
    return torch.compile(function)
