"""Kubernetes objects and what happens to them, from pools so small that everything collides.

Two namespaces, two services, three slices, a few addresses: so objects of one name follow each
other, slices change owners, addresses stand in several places. Some objects are malformed.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from hypothesis import strategies as st

from kdns.cluster.objects import Object, Resource
from kdns.cluster.sink import Key
from kdns.wire import name
from tests.cluster.builders import (
    Tree,
    endpoint,
    external,
    made,
    namespace,
    pod,
    service,
    slice_,
)

SPACES = ("shop", "pay")
SERVICES = ("web", "db")
SLICES = ("s1", "s2", "s3")
PODS = ("web-0", "db-0")
HOSTNAMES = ("h1", "web-0")
V4 = ("10.1.0.1", "10.1.0.2", "10.1.9.1", "10.0.0.1")
V6 = ("fd00:1::1", "fd00:1::")
MAPPED = "::ffff:10.1.0.1"
BAD = "fe80::1%eth0"
FQDN = "a.example.test"
PORTS: tuple[Tree, ...] = (
    {"name": "http", "port": 80},
    {"name": "http", "port": 8080},
    {"name": "dns", "port": 53, "protocol": "UDP"},
    {"port": 9},
)

# The first ones more often, the malformed ones seldom.
spaces = st.sampled_from((*SPACES[:1] * 4, *SPACES))
owners = st.sampled_from((*SERVICES * 4, "", "Web", "a.b"))
places = st.builds("{}.{}".format, st.sampled_from((*SERVICES * 6, "Web", "a.b")), spaces)
addresses = st.sampled_from((*V4, *V6, MAPPED) * 6 + (BAD,))
ports = st.lists(st.sampled_from(PORTS), max_size=2)
endpoints = st.builds(
    lambda listed, hostname, ready, text: endpoint(
        *listed, ready=ready, pod=text, **({"hostname": hostname} if hostname else {})
    ),
    st.lists(addresses, min_size=1, max_size=2),
    st.sampled_from(("", "", *HOSTNAMES, "H1")),
    st.sampled_from((True, True, None, False)),
    st.sampled_from(("", *PODS)),
)
services = st.one_of(
    st.builds(
        lambda place, ips, listed: service(place, *ips, ports=listed),
        places,
        st.lists(addresses, min_size=1, max_size=2),
        ports,
    ),
    st.builds(lambda place, listed: service(place, "None", ports=listed), places, ports),
    st.builds(external, places, st.sampled_from(("www.example.test", "1.2.3.4", ""))),
)
slices = st.one_of(
    st.builds(
        lambda text, space, owner, listed, numbers: slice_(
            f"{text}.{space}", owner, *listed, ports=numbers
        ),
        st.sampled_from(SLICES),
        spaces,
        owners,
        st.lists(endpoints, max_size=3),
        ports,
    ),
    st.builds(
        lambda text, owner: slice_(
            f"{text}.shop", owner, endpoint(FQDN, pod="db-0"), addressType="FQDN"
        ),
        st.sampled_from(SLICES),
        st.sampled_from(SERVICES),
    ),
)
namespaces = st.sampled_from((*SPACES * 3, "Shop")).map(namespace)
pods = st.builds(
    lambda text, space, ips: pod(f"{text}.{space}", *ips),
    st.sampled_from(PODS),
    spaces,
    st.lists(addresses, max_size=2),
)
trees = st.one_of(services, services, slices, slices, namespaces, pods)


class Apply(NamedTuple):
    """An object was added or modified."""

    resource: Resource
    obj: Object

    @property
    def key(self) -> Key:
        """Of the object."""
        return self.obj.metadata.namespace, self.obj.metadata.name


class Remove(NamedTuple):
    """An object was deleted."""

    resource: Resource
    key: Key


class Sweep(NamedTuple):
    """A list ended that had only some of the objects."""

    resource: Resource
    kept: int
    """A bit for each object, in the order of their keys."""


Event = Apply | Remove | Sweep

resources = st.sampled_from(Resource)
applies = trees.map(lambda tree: Apply(*made(tree)))
removes = applies.map(lambda applied: Remove(applied.resource, applied.key))
sweeps = st.builds(Sweep, resources, st.integers(0, 255))
events = st.one_of(applies, applies, applies, applies, applies, removes, sweeps)
histories = st.lists(events, min_size=5, max_size=40).map(
    lambda following: [Apply(*made(namespace(SPACES[0]))), *following]
)
"""What happens to a cluster, from its first namespace on."""


def names(apex: bytes) -> Iterator[bytes]:
    """Every name of a forward zone that these objects can own, and some that nothing owns."""
    dashed = [a.replace(".", "-").replace(":", "-") for a in (*V4, *V6)]
    labels = (
        *(f"{d}0" if d.endswith("-") else d for d in dashed),
        *HOSTNAMES,
        *PODS,
        FQDN.replace(".", "-"),
        *("_tcp", "_udp", "_http._tcp", "_dns._udp", "_._tcp", "_tcp._http", "x"),
    )
    relative = ["", "svc", "pod", "dns", "ns.dns", "dns-version", "x"]
    for space in SPACES:
        relative += [f"{space}.svc", f"{space}.pod"]
        relative += [f"{s}.{space}.svc" for s in (*SERVICES, "x")]
        relative += [f"{n}.{s}.{space}.svc" for n, s in product(labels, SERVICES)]
        relative += [f"{d}.{space}.pod" for d in (*dashed, "fd00-1-0-0-0-0-0-1", "x")]
    for text in relative:
        yield name.from_text(text or ".")[:-1] + apex
