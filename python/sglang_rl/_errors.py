"""How a link fails, and what a push that went well tells."""

from __future__ import annotations

from dataclasses import dataclass


class LinkError(RuntimeError):
    """The link to rank 0 failed; `phase` says what was under way."""

    def __init__(self, message: str, phase: str):
        super().__init__(message)
        self.phase = phase


class LinkLost(LinkError):
    """Rank 0 is gone or does not answer. The next call connects again."""


class LinkRefused(LinkError):
    """Rank 0 does not want this trainer: another key or another version. `code` says which."""

    def __init__(self, message: str, code: str):
        super().__init__(message, "greeting")
        self.code = code


class PushFailed(LinkError):
    """The servers did not get the weights. Rank 0 lives and the next push may work.

    `code` is the kind of failure, `step` the step of the sync, `server` who failed; the last two are
    None where there is none.
    """

    def __init__(self, message: str, code: str, phase: str, step: str | None, server: str | None):
        super().__init__(message, phase)
        self.code = code
        self.step = step
        self.server = server


@dataclass(frozen=True)
class PushReport:
    """What became of a push: the version that all servers now have, and how long it took."""

    version: str
    seconds: float
    """From the call to its return."""
    sync_ms: float | None
    """What the sync took on the other side."""
    paused_ms: float | None
    """Of these, with paused servers."""
    size_bytes: int | None


class _Goodbye(Exception):
    """Rank 0 closed the link in order."""
