"""How many requests may be under way: beyond it the next one is turned away at once, instead of all becoming slow."""

from __future__ import annotations

from models.domain.errors import OverloadedError, require


class Admission:
    """Counts what is under way, on the event loop's thread alone: `with admission: ...` is one request.

    Whoever is let in waits for those before it, so the latency of what is let in is at most about
    `most / decisions a second`, however many ask.

    Args:
        most: Requests under way at the same time, >= 1.
    """

    def __init__(self, most: int) -> None:
        require(most >= 1, "most", most, "must be >= 1")
        self.most = most
        self.n_under_way = 0

    def __enter__(self) -> None:
        """Let one request in until the block ends.

        Raises:
            OverloadedError: as many as may be are under way already.
        """
        if self.n_under_way >= self.most:
            raise OverloadedError(self.most)
        self.n_under_way += 1

    def __exit__(self, *_raised: object) -> None:
        self.n_under_way -= 1
