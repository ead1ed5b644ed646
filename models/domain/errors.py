"""What can go wrong, as classes a caller can act on.

NextchannelError
├── InvalidInputError         a value breaks a stated bound; names field, value and bound
│   ├── PropensityError       a logged probability is missing, zero or above one
│   └── CampaignExpiredError  the campaign's send window has closed
├── InvalidInputsError        several values do; one InvalidInputError for each
├── NotFoundError             no such customer, campaign, channel, decision or model
├── ConflictError             the request contradicts what is recorded
│   ├── KeyReusedError        the idempotency key came with another request before
│   ├── InProgressError       the same request is being executed; ask again in a moment
│   └── StateError            what is asked for is behind the state that was reached
├── NoPredictionsError        a policy needs a response model and there is none
├── StoreUnavailableError     the database cannot take or give data now; try again
└── BundleError               a model bundle is damaged or does not fit this version

Being ineligible is a value (`ReasonCode`), not an exception.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar


class NextchannelError(Exception):
    """Anything that nextchannel raises on purpose."""


class InvalidInputError(NextchannelError):
    """A value breaks a stated bound.

    Args:
        field: Path of the offending field, for example `send_window.ends_at`.
        value: The value as it was given.
        bound: What would have been right, for example `must be >= 0`.
    """

    def __init__(self, field: str, value: object, bound: str) -> None:
        self.field = field
        self.value = value
        self.bound = bound
        super().__init__(f"{field} == {value!r}, {bound}")


class PropensityError(InvalidInputError):
    """A logging probability is missing, zero, negative or above one."""


class CampaignExpiredError(InvalidInputError):
    """The campaign's send window closed before the decision was asked for."""


class InvalidInputsError(NextchannelError):
    """Several values break their bounds.

    Args:
        findings: One for each of them, at least one.
    """

    def __init__(self, findings: Sequence[InvalidInputError]) -> None:
        self.findings = tuple(findings)
        super().__init__("; ".join(map(str, findings)))


class NotFoundError(NextchannelError):
    """Nothing is recorded under this id.

    Args:
        field: The field that carried the id, for example `customer_id`.
        value: The id as it was given.
    """

    def __init__(self, field: str, value: str) -> None:
        self.field = field
        self.value = value
        super().__init__(f"{field} == {value!r}, must name something that exists")


class ConflictError(NextchannelError):
    """The request contradicts what is already recorded; nothing was changed."""


class KeyReusedError(ConflictError):
    """The idempotency key came with another request before; nothing was changed."""


class InProgressError(ConflictError):
    """The same request is being executed at this moment; ask again for its answer."""


class StateError(ConflictError):
    """What is asked for is behind the state that was reached: states only go forward.

    Args:
        decision_id: Whose.
        state: The state that it is in.
        wanted: The state that was asked for.
    """

    def __init__(self, decision_id: str, state: str, wanted: str) -> None:
        self.decision_id = decision_id
        self.state = state
        self.wanted = wanted
        super().__init__(f"decision {decision_id} is {state}, it cannot become {wanted}")


class NoPredictionsError(NextchannelError):
    """A policy ranks by expected value and there are no predictions; choose by a rule instead.

    Args:
        policy: Name of the policy.
    """

    def __init__(self, policy: str) -> None:
        self.policy = policy
        super().__init__(
            f"policy {policy} needs predictions and there is no response model; "
            "train one, or decide by cheapest_first"
        )


class StoreUnavailableError(NextchannelError):
    """The database cannot take or give data now; nothing was acknowledged, try again."""


class OverloadedError(NextchannelError):
    """As many requests as may be are under way; nothing was done, try again in a moment.

    Args:
        most: How many that is.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__(f"{most} requests are under way already, which is the most; try again in a moment")


class BundleError(NextchannelError):
    """A model bundle is damaged, incomplete or made for another version."""


_collected: ContextVar[list[InvalidInputError] | None] = ContextVar("collected", default=None)


@contextmanager
def collecting() -> Iterator[list[InvalidInputError]]:
    """Inside, `require` adds what it finds to the list instead of raising the first of it.

    What is built inside breaks the bounds that the list names; whoever collects throws it away.
    """
    found: list[InvalidInputError] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def require(condition: bool, field: str, value: object, bound: str) -> None:
    """Raise `InvalidInputError(field, value, bound)` unless the condition holds, or note it while `collecting`."""
    if condition:
        return
    error = InvalidInputError(field, value, bound)
    found = _collected.get()
    if found is None:
        raise error
    found.append(error)
