"""Failures that are neither the caller's mistake nor a bug here."""


class OutsideError(RuntimeError):
    """Something outside this program failed (a download, a game's process); the message says what to do."""
