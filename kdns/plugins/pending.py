"""A result that comes later, without a task: an entry in somebody's table that calls back once.

A handler that can answer at once returns its reply; one that must ask somebody else returns a
`Pending`, keeps it in its own bounded table, and resolves it when the answer is there. A task per
question would cost more than the whole of the rest of the question.

    resolve(value) --> step --> step --> the callback
                         | raises                ^
                         +--> error, past the steps, to the first `otherwise` or `failed`

An error that nobody waits for is raised out of whatever was called last, for the event loop's log.
"""

from collections.abc import Callable
from typing import Generic, TypeVar, cast

T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")

_UNSET = object()


class Pending(Generic[T]):
    """One value to come, and the one callback that waits for it.

    Whoever creates it calls `resolve` or `fail` exactly once; whoever receives it calls `when_done`
    or `then` exactly once. The order does not matter.
    """

    __slots__ = ("_callback", "_error", "_failed", "_value")

    def __init__(self) -> None:
        self._value: object = _UNSET
        self._error: Exception | None = None
        self._callback: Callable[[T], object] | None = None
        self._failed: Callable[[Exception], object] | None = None

    @property
    def done(self) -> bool:
        """Whether `resolve` or `fail` was called."""
        return self._value is not _UNSET or self._error is not None

    def resolve(self, value: T) -> None:
        """Give the value; the waiting callback runs before this returns."""
        assert not self.done, "a pending value is resolved once"
        self._value = value
        if self._callback is not None:
            self._callback(value)

    def fail(self, error: Exception) -> None:
        """Say that there will be no value. Raises `error` when who waits does not take errors."""
        assert not self.done, "a pending value is resolved once"
        self._error = error
        if self._callback is not None:
            self._tell(error)

    def when_done(
        self,
        callback: Callable[[T], object],
        failed: Callable[[Exception], object] | None = None,
    ) -> None:
        """Have `callback` called with the value: now if it is there, else when it comes.

        failed: called in place of it with the error, when there will be no value.
        """
        assert self._callback is None, "a pending value has one callback"
        self._callback = callback
        self._failed = failed
        if self._error is not None:
            self._tell(self._error)
        elif self._value is not _UNSET:
            callback(cast("T", self._value))

    def then(
        self,
        step: Callable[[T], "U | Pending[U]"],
        otherwise: Callable[[Exception], "U | Pending[U]"] | None = None,
    ) -> "Pending[U]":
        """What `step` makes of the value, itself at once or pending; it fails if `step` raises.

        otherwise: what to make of an error from before; without it the error goes on.
        """
        result = _Step(step, otherwise)
        self.when_done(result.take, result.take_error)
        return result

    def _tell(self, error: Exception) -> None:
        if self._failed is None:
            raise error
        self._failed(error)


class _Step(Pending[U], Generic[T, U]):
    """A Pending whose value is made of another's. A class, for closures cost more to make."""

    __slots__ = ("_otherwise", "_step")

    def __init__(
        self,
        step: Callable[[T], U | Pending[U]],
        otherwise: Callable[[Exception], U | Pending[U]] | None,
    ) -> None:
        self._value = _UNSET
        self._error = None
        self._callback = None
        self._failed = None
        self._step = step
        self._otherwise = otherwise

    def take(self, value: T) -> None:
        """The value that the step is made of has come."""
        self._attempt(self._step, value)

    def take_error(self, error: Exception) -> None:
        """It will not come."""
        if self._otherwise is None:
            self.fail(error)
        else:
            self._attempt(self._otherwise, error)

    def _attempt(self, make: Callable[[V], U | Pending[U]], given: V) -> None:
        try:
            made = make(given)
        except Exception as error:  # noqa: BLE001 - not swallowed: it goes on to who waits
            self.fail(error)
            return
        if isinstance(made, Pending):
            made.when_done(self.resolve, self.fail)
        else:
            self.resolve(made)


def after(value: T | Pending[T], step: Callable[[T], U | Pending[U]]) -> U | Pending[U]:
    """Apply `step` to a value that is there or will be; stays synchronous when it can."""
    if isinstance(value, Pending):
        return value.then(step)
    return step(value)
