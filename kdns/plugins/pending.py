"""A result that comes later, without a task: an entry in somebody's table that calls back once.

A handler that can answer at once returns its reply; one that must ask somebody else returns a
`Pending`, keeps it in its own bounded table, and resolves it when the answer is there. A task per
question would cost more than the whole of the rest of the question.
"""

from collections.abc import Callable
from typing import Generic, TypeVar, cast

T = TypeVar("T")
U = TypeVar("U")

_UNSET = object()


class Pending(Generic[T]):
    """One value to come, and the one callback that waits for it.

    Whoever creates it calls `resolve` exactly once; whoever receives it calls `when_done` exactly
    once. The order does not matter.
    """

    __slots__ = ("_callback", "_value")

    def __init__(self) -> None:
        self._value: object = _UNSET
        self._callback: Callable[[T], object] | None = None

    @property
    def done(self) -> bool:
        """Whether `resolve` was called."""
        return self._value is not _UNSET

    def resolve(self, value: T) -> None:
        """Give the value; the waiting callback runs before this returns."""
        assert self._value is _UNSET, "a pending value is resolved once"
        self._value = value
        if self._callback is not None:
            self._callback(value)

    def when_done(self, callback: Callable[[T], object]) -> None:
        """Have `callback` called with the value: now if it is there, else when it comes."""
        assert self._callback is None, "a pending value has one callback"
        self._callback = callback
        if self._value is not _UNSET:
            callback(cast("T", self._value))

    def then(self, step: Callable[[T], "U | Pending[U]"]) -> "Pending[U]":
        """What `step` makes of the value, itself at once or pending."""
        result: Pending[U] = Pending()

        def proceed(value: T) -> None:
            made = step(value)
            if isinstance(made, Pending):
                made.when_done(result.resolve)
            else:
                result.resolve(made)

        self.when_done(proceed)
        return result


def after(value: T | Pending[T], step: Callable[[T], U | Pending[U]]) -> U | Pending[U]:
    """Apply `step` to a value that is there or will be; stays synchronous when it can."""
    if isinstance(value, Pending):
        return value.then(step)
    return step(value)
