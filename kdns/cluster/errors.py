"""The one error of this package."""


class ObjectError(ValueError):
    """An object, list or watch line that is not what the API promises; the message names it."""
