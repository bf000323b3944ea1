"""Starts a program the way a container runtime does, with the kernel alone: no engine is needed.

Run by root as `python -m tests.image.container ROOT [--bind SOURCE:TARGET]... [--env NAME=VALUE]...
-- ARGV`, in a mount and a network namespace of its own. The root file system is read-only, the user
is 65532, privileges cannot be gained any more, and of all capabilities CAP_NET_BIND_SERVICE is
left, in the bounding, permitted and effective sets: what a runtime makes of `runAsNonRoot`,
`readOnlyRootFilesystem`, `allowPrivilegeEscalation: false`, `drop: [ALL], add: [NET_BIND_SERVICE]`.
With --bare no capability is left, and low ports are free for all (ip_unprivileged_port_start).
"""

import argparse
import ctypes
import os
import struct
import subprocess
from pathlib import Path
from typing import NoReturn

UID = 65532
NET_BIND_SERVICE = 10
LOW_PORTS = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")

PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    """Become the program; never returns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--bind", action="append", default=[])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--bare", action="store_true", help="without any capability")
    parser.add_argument("--cgroup", type=Path, help="one that bounds its memory, to be joined")
    parser.add_argument("argv", nargs="+")
    options = parser.parse_args()
    if options.cgroup:
        (options.cgroup / "cgroup.procs").write_text(str(os.getpid()))
    _mount(options.root, [text.split(":") for text in options.bind])
    if options.bare:
        LOW_PORTS.write_text("0")
    kept = () if options.bare else (NET_BIND_SERVICE,)
    last = int(LAST_CAPABILITY.read_text())
    os.chroot(options.root)
    os.chdir("/")
    for capability in range(last + 1):
        if capability not in kept:
            _call(_libc.prctl, PR_CAPBSET_DROP, capability, 0, 0, 0)
    _call(_libc.prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)
    _capset(sum(1 << capability for capability in kept))
    _call(_libc.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    environment = dict(text.split("=", 1) for text in options.env)
    os.execvpe(options.argv[0], options.argv, environment)


def _mount(root: Path, binds: list[list[str]]) -> None:
    def mount(*arguments: str | Path) -> None:
        subprocess.run(["mount", *arguments], check=True)

    mount("--make-rprivate", "/")
    mount("--bind", root, root)
    mount("-t", "proc", "proc", root / "proc")
    for device in ("null", "zero", "urandom"):
        place = root / "dev" / device
        place.touch()
        mount("--bind", f"/dev/{device}", place)
    for source, target in binds:
        place = root / target.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        mount("--bind", source, place)
        if not os.access(source, os.W_OK) or not target.startswith("/var/"):
            mount("-o", "remount,bind,ro", place)
    mount("-o", "remount,bind,ro", root)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def _capset(permitted: int) -> None:
    """Permitted and effective; nothing inheritable, hence nothing ambient (capabilities(7))."""
    header = struct.pack("<Ii", CAPABILITY_VERSION_3, 0)
    low, high = permitted & 0xFFFFFFFF, permitted >> 32
    data = struct.pack("<6I", low, low, 0, high, high, 0)
    _call(_libc.capset, header, data)


def _call(function: "ctypes._NamedFuncPointer", *arguments: int | bytes) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function.__name__}{arguments}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
