"""What nobody can save: `python -m perf.bare` does one part of a start, and says what it took.

imports              seconds of CPU until the program's modules are there
decode URL CA KIND   seconds of CPU to decode all objects of these resources, and their octets
weigh KIND           octets that the state holds for each object, as the allocator was asked
"""

from __future__ import annotations

import gc
import ssl
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.request import urlopen

import msgspec

from kdns.cluster import objects
from kdns.cluster.held import Held
from kdns.cluster.objects import Resource
from kdns.cluster.sink import Sink
from kdns.cluster.state import Cluster
from perf.large import Large

_TIMES = 3


class Decoded(NamedTuple):
    """CPU, of the quickest of three times, and octets of JSON."""

    seconds: float
    octets: int


class Weight(NamedTuple):
    """Octets for each, in the state, and as what workers and the disk are told."""

    state: float
    told: float


def main(argv: Sequence[str]) -> int:
    """The process."""
    match list(argv):
        case ["imports"]:
            said: object = imports()
        case ["decode", url, ca, *kinds]:
            said = decode(url, ca, [Resource(kind) for kind in kinds])
        case ["weigh", kind]:
            said = weigh(kind, Large(pods=100_000))
        case _:
            sys.stderr.write(__doc__ or "")
            return 2
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    return 0


def imports() -> float:
    """Import what `kdns serve` imports to follow an API server."""
    import uvloop  # noqa: F401

    import kdns.launch
    import kdns.serve  # noqa: F401

    return time.process_time()


def decode(url: str, ca: str, resources: Sequence[Resource]) -> Decoded:
    """Decode the lists of an API server. Raises OSError."""
    seconds, octets = 0.0, 0
    trusted = ssl.create_default_context(cafile=ca)
    for resource in resources:
        with urlopen(f"{url}{resource.path}", context=trusted) as answer:  # noqa: S310 (https)
            body = answer.read()
        octets += len(body)
        kind = msgspec.defstruct("List", [("items", list[resource.type])])  # type: ignore[name-defined]
        read = msgspec.json.Decoder(kind).decode
        seconds += min(_timed(read, body) for _ in range(_TIMES))
    return Decoded(seconds, octets)


def _timed(read: Callable[[bytes], object], body: bytes) -> float:
    begun = time.process_time()
    held = read(body)
    ended = time.process_time()
    del held
    return ended - begun


def weigh(kind: str, large: Large) -> Weight:
    """Octets of each "endpoint", "service" or "pod" of a large cluster."""
    resource, count = {
        "endpoint": (Resource.ENDPOINTSLICES, large.endpoints),
        "service": (Resource.SERVICES, large.services),
        "pod": (Resource.PODS, large.pods),
    }[kind]
    read = [
        objects.convert_object(resource, obj)
        for obj in large.objects()
        if obj["kind"] == resource.kind
    ]
    state = _allocated(Cluster(time.time, sys.stderr.write, pod_names=False), resource, read)
    told = _allocated(Held(sys.stderr.write, pod_names=False), resource, read)
    return Weight(state / count, told / count)


def _allocated(sink: Sink, resource: Resource, read: Sequence[objects.Object]) -> int:
    gc.collect()
    tracemalloc.start()
    for obj in read:
        sink.apply(resource, obj)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
