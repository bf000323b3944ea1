"""pprof: a profile when somebody asks for one."""

import gzip
from collections.abc import Awaitable

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import pprof
from kdns.plugins.chain import refuse
from kdns.plugins.parts import HttpReply, HttpRequest, Page
from tests.plugins.fakes import FakeParts, settings


class Served:
    """A pprof directive, and what its pages say."""

    def __init__(self, text: str = "pprof") -> None:
        self.parts = FakeParts()
        self.configured = settings(pprof.parse, text)
        assert self.configured.build(self.parts, refuse) is refuse

    async def get(self, path: str, **query: str) -> HttpReply:
        (route,) = [r for (_, known), r in self.parts.routes.items() if known == path]
        said = route(HttpRequest(query)) if isinstance(route, Page) else route()
        return await said if isinstance(said, Awaitable) else said


def test_it_is_served_where_go_serves_it() -> None:
    paths = ["/debug/pprof", "/debug/pprof/", "/debug/pprof/profile", "/debug/pprof/goroutine"]
    assert list(Served().parts.routes) == [("localhost:6053", path) for path in paths]
    assert {address for address, _ in Served("pprof :6060").parts.routes} == {":6060"}


async def test_a_profile_is_compressed_protobuf() -> None:
    served = Served()
    reply = await served.get("/debug/pprof/profile", seconds="5")
    assert (reply.status, reply.content_type) == (200, "application/octet-stream")
    assert gzip.decompress(reply.body)
    assert served.parts.profiled == [5.0]


async def test_without_seconds_it_is_thirty_as_in_go() -> None:
    served = Served()
    await served.get("/debug/pprof/profile")
    assert served.parts.profiled == [30.0]


async def test_a_profile_may_be_text() -> None:
    reply = await Served().get("/debug/pprof/profile", seconds="5", format="collapsed")
    assert reply.body == b"outer (b/c.py:1);inner (b/c.py:7) 3\n"


@pytest.mark.parametrize(
    "query", [{"seconds": "0"}, {"seconds": "301"}, {"seconds": "x"}, {"seconds": "nan"},
              {"seconds": "5", "format": "svg"}],
)  # fmt: skip
async def test_what_cannot_be_had_is_an_error(query: dict[str, str]) -> None:
    served = Served()
    reply = await served.get("/debug/pprof/profile", **query)
    assert (reply.status, served.parts.profiled) == (400, [])


async def test_two_at_once_are_a_conflict() -> None:
    served = Served()
    served.parts.profile_error = "a profile is being taken already"
    reply = await served.get("/debug/pprof/profile", seconds="5")
    assert (reply.status, reply.body) == (409, b"a profile is being taken already\n")


async def test_tasks_are_told_with_their_stacks() -> None:
    reply = await Served().get("/debug/pprof/goroutine")
    assert reply.body.startswith(b"1 tasks\n")
    assert b"test_tasks_are_told_with_their_stacks" in reply.body


async def test_the_index_leads_to_all_of_it() -> None:
    reply = await Served().get("/debug/pprof/")
    assert b"/debug/pprof/profile" in reply.body
    assert b"/debug/pprof/goroutine" in reply.body


def test_block_is_read_and_warned_of() -> None:
    configured = Served("pprof {\nblock 1\n}").configured
    assert configured.warnings() == ("Corefile:3: pprof: block has no effect: nothing here blocks",)
    assert configured.explain() == "http://localhost:6053/debug/pprof"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pprof a b", r"^Corefile:2: pprof: expected at most 1 argument"),
        ("pprof 6053", r"^Corefile:2: expected HOST:PORT"),
        ("pprof {\nblock x\n}", r"^Corefile:3: expected a number"),
        ("pprof {\nheap\n}", r"^Corefile:3: pprof: unknown option 'heap'; expected block"),
    ],
)
def test_bad_arguments_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        settings(pprof.parse, text)
