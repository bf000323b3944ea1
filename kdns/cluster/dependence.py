"""What an answer rests on, and what a change touches, in the same words.

An answer about a name rests on the service (its key holds the namespace too), on the namespace, on
the address of a reverse name, or on the pod of a pod's name, whether it exists or not: that
is how a denial dies when the name comes to be. Answers at the apex, whose serial and name servers
change with anything, are not to be kept.

The SOA that comes with a denial keeps the serial of the time when it was made: nothing in the
denial itself has changed since, and nobody transfers these zones.
"""

from collections.abc import Iterator

from kdns.cluster.state import Change
from kdns.cluster.zone import SVC, pod_address, reverse_span

Dependency = bytes
"""A tag that tells clusters apart, an octet for the kind, and which one: bytes, for they are made
for every answer that is kept."""

POD = b"\x03pod"
NAMESPACE, SERVICE, ADDRESS, POD_ADDRESS = b"n", b"s", b"a", b"p"


def of_forward_name(below: bytes, tag: bytes = b"") -> tuple[Dependency, ...] | None:
    """What the node at `below`, the labels below a forward apex, rests on; None: do not keep.

    Names outside the grammar never exist, so their denial rests on nothing.
    """
    # Where the last three labels start; -1 where there are not so many.
    third = second = last = -1
    position, size = 0, len(below)
    while position < size:
        third, second, last = second, last, position
        position += below[position] + 1
    if last < 0:
        return None
    tree = below[last:]
    if second < 0 or tree not in (SVC, POD):
        return ()
    label = below[second:last]
    namespace = tag + NAMESPACE + label
    if third < 0:
        return (namespace,)
    if tree == SVC:
        return (namespace, tag + SERVICE + below[third:last])
    packed = None if third else pod_address(below[1:second])
    return (namespace, tag + POD_ADDRESS + label + packed) if packed else (namespace,)


def of_reverse_name(key: bytes, apex: bytes, tag: bytes = b"") -> tuple[Dependency, ...] | None:
    """What the node at `key`, a name at or below a reverse zone's apex, rests on."""
    if key == apex:
        return None
    span = reverse_span(key)
    if span is None:
        return () if not key.endswith(b"\x03dns" + apex) else None
    first, last = span
    # An empty non-terminal rests on every address below it: rare, and not kept.
    return (tag + ADDRESS + first,) if first == last else None


def of_change(change: Change, tag: bytes = b"") -> Iterator[Dependency]:
    """Everything that answers may rest on and that a change touches.

    Made when it is asked for: while a cluster is read, nobody does.
    """
    yield from [tag + SERVICE + key for key in change.services]
    yield from [tag + NAMESPACE + label for label in change.namespaces]
    yield from [tag + ADDRESS + address for address in change.addresses]
    yield from [tag + POD_ADDRESS + namespace + address for namespace, address in change.pods]
