"""What an API server can do to who watches it: each fault, and what a run of it does.

A run asks kdns all the time, about what does not change, and changes other objects before, during
and after the fault. It ends when the answers about those are right too.

`scale` shortens the waits of a run, for a look; the figures of a shorter run are of a shorter run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from kdns.testing.apiserver import ApiServer

Json: TypeAlias = dict[str, object]

SILENCE = 150.0
"""Seconds after which kdns leaves a watch that says nothing (kdns.kube.client)."""
BACKOFF = 30.0
"""Seconds that kdns waits at most before it asks again (kdns.cluster.reflector)."""
AUDIT_EVERY = 20
"""Seconds between audits in the run that needs one; ordinary ones come every half hour."""
ODD_ADDRESS, ODD_ENDPOINT = "10.97.0.1", "10.97.1.1"
RESOURCES = ("services", "endpointslices", "namespaces")


class Stage(Protocol):
    """A running kdns, its API server, and the objects whose answers change."""

    @property
    def api(self) -> ApiServer:
        """The API server."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let time pass, scaled."""
        ...

    def times(self, number: int) -> int:
        """How often something is done that is done so often, scaled."""
        ...

    def change(self, *, told: bool = True) -> None:
        """Create a service, give another one another address, delete a third.

        told: whether open watches hear of it.
        """
        ...

    def expect(self, name: str, address: str | None) -> None:
        """From now on `name` (service.namespace) has this address, or is none."""
        ...

    def write_token(self, token: str) -> None:
        """Put it where kdns reads its token."""
        ...

    async def ask_on(self, seconds: float) -> None:
        """Begin to ask about what does not change, for so long, scaled."""
        ...

    async def asked(self) -> None:
        """Wait for the end of what `ask_on` began."""
        ...

    async def restart(self) -> None:
        """Stop kdns, and start it again; return when it answers."""
        ...

    async def kill_worker(self) -> None:
        """Kill one of its workers with -9; return when there is another in its place.

        Every port of a client is answered by then, and nothing that was counted is lost.
        """
        ...


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    seconds: for which is asked, from before the fault until after its end. act: does it, and
    undoes it. options: of `kdns serve` beside the usual ones.
    """

    name: str
    about: str
    seconds: float
    act: Callable[[Stage], Awaitable[None]]
    options: tuple[str, ...] = ()


async def _nothing(stage: Stage) -> None:
    stage.change()
    await stage.sleep(5)
    stage.change()


async def _killed(stage: Stage) -> None:
    await stage.api.stop()
    stage.change()
    await stage.sleep(60)
    stage.change()
    await stage.api.start()


async def _killed_and_restarted(stage: Stage) -> None:
    await stage.asked()
    await stage.api.stop()
    stage.change()
    await stage.restart()
    await stage.ask_on(60)
    await stage.sleep(30)
    await stage.api.start()


async def _cut(stage: Stage) -> None:
    for _ in range(stage.times(30)):
        stage.api.drop_connections()
        stage.change()
        await stage.sleep(2)


async def _silent(stage: Stage) -> None:
    stage.api.mute()
    stage.change()
    await stage.sleep(60)
    stage.change()


async def _dropped(stage: Stage) -> None:
    stage.change(told=False)
    await stage.sleep(5)
    stage.change(told=False)


async def _token(stage: Stage) -> None:
    stage.api.tokens = {"second"}
    stage.api.drop_connections()
    stage.change()
    await stage.sleep(30)
    stage.change()
    stage.write_token("second")


async def _rbac(stage: Stage) -> None:
    for name in RESOURCES:
        stage.api.forbid(name)
    stage.api.drop_connections()
    stage.change()
    await stage.sleep(60)
    stage.change()
    for name in RESOURCES:
        stage.api.allow(name)


async def _refused(stage: Stage) -> None:
    stage.api.refuse(500, times=None)
    stage.api.drop_connections()
    stage.change()
    await stage.sleep(30)
    stage.api.refuse(429, times=None, retry_after=stage.times(5))
    stage.change()
    await stage.sleep(30)
    stage.api.relent()


async def _truncated(stage: Stage) -> None:
    half = b'{"type":"MODIFIED","object":{"kind":"Service","apiVersion":"v1","meta'
    stage.change()
    stage.api.send(half + b"\n")
    await stage.sleep(5)
    stage.change()
    stage.api.send(half, end=True)
    await stage.sleep(5)
    stage.change()


async def _worker(stage: Stage) -> None:
    await stage.kill_worker()
    stage.change()


async def _odd(stage: Stage) -> None:
    stage.api.load(odd_objects())
    stage.expect("cart.odd", ODD_ADDRESS)
    stage.expect("headless.odd", ODD_ENDPOINT)
    stage.change()


def odd_objects() -> list[Json]:
    """Objects with fields that nobody knows, and with null where a list is expected."""
    unknown: Json = {"of": ["tomorrow", {"deep": None}], "": 0}

    def odd(kind: str, name: str, **more: object) -> Json:
        metadata: Json = {"namespace": "odd", "name": name, "labels": None, "annotations": None}
        metadata |= {"finalizers": None, "managedFields": None, "unknown": unknown}
        version = "discovery.k8s.io/v1" if kind == "EndpointSlice" else "v1"
        return {"apiVersion": version, "kind": kind, "metadata": metadata, "unknown": 1, **more}

    owner: Json = {"labels": {"kubernetes.io/service-name": "headless"}}
    metadata: Json = {"namespace": "odd", "name": "owned"} | owner
    endpoints: list[Json] = [
        {"addresses": None, "conditions": None, "targetRef": None, "hints": unknown},
        {"addresses": [ODD_ENDPOINT], "conditions": {"ready": None}, "hostname": None},
    ]
    slices = odd("EndpointSlice", "owned", addressType="IPv4", endpoints=endpoints, ports=None)
    spec: Json = {"type": None, "clusterIP": ODD_ADDRESS, "clusterIPs": None, "ports": None}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "odd", "labels": None}},
        odd("Service", "cart", spec=spec | {"unknown": unknown, "externalIPs": None}, status=None),
        odd("Service", "empty", spec={}),
        odd("Service", "headless", spec={"clusterIP": "None", "ports": None}),
        odd("EndpointSlice", "nulls", addressType="IPv4", endpoints=None, ports=None),
        slices | {"metadata": metadata},
    ]


FAULTS: tuple[Fault, ...] = (
    Fault("none", "nothing happens: the control", 10, _nothing),
    Fault("killed", "the API server is killed for 60 s, and comes back", 110, _killed),
    Fault(
        "restart",
        "it is killed, and kdns restarts meanwhile",
        5,
        _killed_and_restarted,
    ),
    Fault("cut", "every connection is cut every 2 s, for a minute", 75, _cut),
    Fault("silent", "every watch stays open and says nothing more", SILENCE + 30, _silent),
    Fault(
        "dropped",
        "events are dropped without notice",
        75,
        _dropped,
        ("--audit-every", str(AUDIT_EVERY)),
    ),
    Fault("token", "the token expires; 30 s later there is a new one", 75, _token),
    Fault("rbac", "the rights are withdrawn for a minute", 105, _rbac),
    Fault("refused", "500 for half a minute, then 429", 105, _refused),
    Fault("truncated", "a line of a watch is cut in two", 20, _truncated),
    Fault("worker", "a worker of two is killed with -9", 10, _worker, ("--workers", "2")),
    Fault("odd", "objects have unknown fields, and null for lists", 10, _odd),
)
