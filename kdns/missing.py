"""A package that is not installed where we run: one line for people, in place of a traceback.

Nothing but the standard library is imported here, for what else there is has just been asked.
"""

import sys

_OURS = frozenset({"kdns", "perf"})
_INSTALLED_AS = {"yaml": "PyYAML", "_cffi_backend": "cffi"}
"""Modules that bear another name than the package that has them."""


def words(program: str, error: ModuleNotFoundError) -> str:
    """What to say of it. Raises it again where a module of ours is what is missing: a defect."""
    name = (error.name or "").split(".")[0]
    if not name or name in _OURS:
        raise error
    package = _INSTALLED_AS.get(name, name.replace("_", "-"))
    return (
        f"{program}: the package {package} is not installed for {sys.executable}; "
        "`make dev` installs it for .venv/bin/python"
    )
