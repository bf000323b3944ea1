"""The capability for ports below 1024, taken when it is wanted and the process may have it.

The image's interpreter is permitted CAP_NET_BIND_SERVICE by a file capability without the effective
bit. So the kernel starts it whether or not the container has the capability (with that bit it would
refuse where it has not), and a process that has it must say so before it binds (capabilities(7)).
"""

import ctypes
import sys
from typing import Final

_NET_BIND_SERVICE: Final = 10
_VERSION_3: Final = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Half(ctypes.Structure):
    """32 capabilities; version 3 of the call takes two of these, the lower ones first."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def take_low_ports() -> bool:
    """Have CAP_NET_BIND_SERVICE in effect from now on; False if it is not permitted, or was."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    header = _Header(_VERSION_3, 0)
    halves = (_Half * 2)()
    if libc.capget(ctypes.byref(header), halves) != 0:
        return False
    wanted = 1 << _NET_BIND_SERVICE
    if not halves[0].permitted & wanted or halves[0].effective & wanted:
        return False
    halves[0].effective |= wanted
    return bool(libc.capset(ctypes.byref(header), halves) == 0)
