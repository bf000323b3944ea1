"""What an App needs of others, as Protocols, and what may come of asking them to change."""

import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from kdns.admin.webconfig import Secured
from kdns.cluster.state import Cluster
from kdns.generation import Generation
from kdns.plugins.parts import Routes, SourceSettings
from kdns.sockets import Sockets
from kdns.telemetry.meters import Meters
from kdns.telemetry.profiler import Profile
from kdns.telemetry.top import Window


class NotReadyError(Exception):
    """A new Corefile was not ready in time; the present one goes on."""


class ClusterSources(Protocol):
    """Where the states of clusters come from; kube.sources.Sources, or what stands for it."""

    meters: Meters

    def cluster(self, settings: SourceSettings) -> Cluster:
        """The state for these settings, the same one for the same settings."""

    async def start(self) -> None:
        """Begin to feed those that are not fed yet."""

    async def keep(self, clusters: Sequence[Cluster]) -> None:
        """Forget all others. These are in the order in which the Corefile asks for them."""

    async def close(self) -> None:
        """Feed nothing any more."""

    def ages(self) -> Iterable[tuple[str, float]]:
        """By resource: seconds since it was last known that we are told of it; inf for never."""


class Admin(Protocol):
    """The sockets of HTTP, and what is said there; admin.http.AdminServer."""

    @property
    def ports(self) -> dict[str, int]:
        """The port of each address."""

    @property
    def sockets(self) -> dict[str, list[socket.socket]]:
        """What each address listens on."""

    def hold(self, address: str, sockets: list[socket.socket]) -> None:
        """Listen on these, which are open already, when that address is opened."""

    async def open(self, routes: Routes) -> None:
        """Open the sockets of addresses that have none. Raises OSError."""

    async def renew(self, routes: Routes, secured: Mapping[str, Secured]) -> None:
        """Serve these routes, and no others."""

    async def close(self) -> None:
        """Close the sockets. Twice is harmless."""


class Followers(Protocol):
    """Other processes that have to take a new Corefile too, in the same step."""

    async def stage(self, generation: Generation, sockets: list[Sockets]) -> None:
        """Have each build it. Raises FollowError where one cannot."""

    async def adopt(self) -> None:
        """Have each take it over, and wait until all have."""

    def discard(self) -> None:
        """Have each forget it."""

    def dismiss(self) -> None:
        """Have each have its clients over TCP go."""


class Others(Protocol):
    """Other processes that answer, for people who look into them."""

    async def asked(self) -> list[Window]:
        """Who has asked them what."""

    async def profiles(self, seconds: float) -> list[Profile]:
        """Where their CPU time goes."""


class FollowError(Exception):
    """What another process says of a new Corefile."""
