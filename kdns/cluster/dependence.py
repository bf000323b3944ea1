"""What an answer rests on, and what a change touches, in the same words.

An answer about a name rests on the service (its key holds the namespace too), on the namespace, on
the address of a reverse name, or on the pod of a pod's name, whether it exists or not: that
is how a denial dies when the name comes to be. Answers at the apex, whose serial and name servers
change with anything, are not to be kept.
"""

from typing import Literal

from kdns.cluster.state import Change
from kdns.cluster.zone import pod_address, reverse_span

Dependency = tuple[Literal["service", "namespace", "address", "pod"], bytes]


def of_forward_name(below: bytes) -> tuple[Dependency, ...] | None:
    """What the node at `below`, the labels below a forward apex, rests on; None: do not keep.

    Names outside the grammar never exist, so their denial rests on nothing.
    """
    starts: list[int] = []
    position = 0
    while position < len(below):
        starts.append(position)
        position += below[position] + 1
    depth = len(starts)
    if not depth:
        return None
    tree = below[starts[-1] :]
    if tree not in (b"\x03svc", b"\x03pod") or depth == 1:
        return ()
    namespace: Dependency = ("namespace", below[starts[-2] : starts[-1]])
    if depth == 2:
        return (namespace,)
    if tree == b"\x03svc":
        return (namespace, ("service", below[starts[-3] : starts[-1]]))
    packed = pod_address(below[1 : starts[1]]) if depth == 3 else None
    return (namespace, ("pod", namespace[1] + packed)) if packed else (namespace,)


def of_reverse_name(key: bytes, apex: bytes) -> tuple[Dependency, ...] | None:
    """What the node at `key`, a name at or below a reverse zone's apex, rests on."""
    if key == apex:
        return None
    span = reverse_span(key)
    if span is None:
        return () if not key.endswith(b"\x03dns" + apex) else None
    first, last = span
    # An empty non-terminal rests on every address below it: rare, and not kept.
    return (("address", first),) if first == last else None


def of_change(change: Change) -> list[Dependency]:
    """Everything that answers may rest on and that a change touches."""
    found: list[Dependency] = [("service", key) for key in change.services]
    found += [("namespace", label) for label in change.namespaces]
    found += [("address", address) for address in change.addresses]
    found += [("pod", namespace + address) for namespace, address in change.pods]
    return found
