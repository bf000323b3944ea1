"""The real program while its API server misbehaves: what stays is answered, what changes comes.

The faults are those of `python -m perf faults`, where they last as long as they do in life. Here
each wait ends as soon as the program has come back to the server.
"""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from kdns.testing.apihistory import Json
from kdns.testing.apiserver import ApiServer
from perf.answers import matches
from perf.fault_run import Probes
from perf.faults import FAULTS, Fault
from perf.model import Query
from perf.workloads import Question, query
from tests.serving import Server, counted, free_port, serving

STAYS = (
    Question("cart.shop.svc.cluster.local.", "A", 0, ("10.96.0.20",)),
    Question("db.shop.svc.cluster.local.", "A", 0, ("10.128.0.1", "10.128.0.2")),
    Question("none.shop.svc.cluster.local.", "A", 3, ()),
    Question("20.0.96.10.in-addr.arpa.", "PTR", 0, ("cart.shop.svc.cluster.local.",)),
)
# A restart is test_scenario_state's and a worker test_scenario_workers'.
PLAYED = [fault for fault in FAULTS if fault.name not in {"none", "restart", "worker"}]


def objects() -> list[Json]:
    def named(kind: str, name: str, **more: object) -> Json:
        return {"kind": kind, "metadata": {"namespace": "shop", "name": name}, **more}

    addresses = [{"addresses": [f"10.128.0.{number}"]} for number in (1, 2)]
    slice_ = named("EndpointSlice", "db-1", addressType="IPv4", endpoints=addresses)
    slice_["metadata"]["labels"] = {"kubernetes.io/service-name": "db"}
    return [
        {"kind": "Namespace", "metadata": {"name": "shop"}},
        {"kind": "Namespace", "metadata": {"name": "probes"}},
        named("Service", "cart", spec={"clusterIP": "10.96.0.20"}),
        named("Service", "db", spec={"clusterIP": "None"}),
        slice_,
    ]


class Asker:
    """Asks about what stays, again and again, in a thread of its own."""

    def __init__(self, port: int) -> None:
        self.right = 0
        self.wrong: list[str] = []
        self._port = port
        self._end = threading.Event()

    @contextmanager
    def asking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def _ask(self) -> None:
        asked = [(each.qname, query(each, "udp")) for each in STAYS]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(10)
            sock.connect(("127.0.0.1", self._port))
            while not self._end.is_set():
                for name, each in asked:
                    self._judge(name, each, sock)

    def _judge(self, name: str, asked: Query, sock: socket.socket) -> None:
        try:
            sock.send(asked.wire)
            right = matches(asked, sock.recv(65535))
        except OSError:
            right = False
        if right:
            self.right += 1
        else:
            self.wrong.append(name)


class Scene:
    """A perf.faults.Stage in which no time passes but what the program itself takes."""

    def __init__(self, api: ApiServer, folder: Path) -> None:
        self.api = api
        self.probes = Probes(api)
        self._folder = folder

    async def sleep(self, _seconds: float) -> None:
        if self.api.listening:
            await self.api.asked()

    def times(self, number: int) -> int:
        return max(1, number // 10)

    def change(self, *, told: bool = True) -> None:
        self.probes.change(told=told)

    def expect(self, name: str, address: str | None) -> None:
        self.probes.expected[name] = address

    def write_token(self, token: str) -> None:
        (self._folder / "token").write_text(token)

    async def ask_on(self, _seconds: float) -> None:
        raise AssertionError("questions are asked all the time")

    async def asked(self) -> None:
        raise AssertionError("questions are asked all the time")

    async def restart(self) -> None:
        raise AssertionError("not here")

    async def kill_worker(self) -> None:
        raise AssertionError("not here")


def settle(port: int, asked: list[Query]) -> None:
    """Ask until all is right: every question is answered at once, so nothing is slept."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect(("127.0.0.1", port))
        for each in asked:
            right = False
            while not right:
                sock.send(each.wire)
                right = matches(each, sock.recv(65535))


@contextmanager
def program(folder: Path, api: ApiServer, metrics: int, *options: str) -> Iterator[Server]:
    """kdns, by a kubeconfig whose token is in a file."""
    (folder / "token").write_text("first")
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": api.url}}],
        "users": [{"name": "u", "user": {"tokenFile": str(folder / "token")}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "kubeconfig").write_bytes(msgspec.json.encode(kubeconfig))
    path = folder / "Corefile"
    path.write_text(
        f". {{\n bind 127.0.0.1\n prometheus 127.0.0.1:{metrics}\n"
        f" kubernetes cluster.local in-addr.arpa {{\n  kubeconfig {folder}/kubeconfig\n }}\n}}\n"
    )
    with serving(path, *options) as server:
        yield server


@pytest.mark.parametrize("fault", PLAYED, ids=lambda fault: fault.name)
async def test_nothing_that_stays_is_answered_wrong_and_what_changes_comes(
    tmp_path: Path, fault: Fault
) -> None:
    options = {
        "dropped": ("--audit-every", "1"),
        "silent": ("--watch-silence", "1"),
    }.get(fault.name, ())
    async with ApiServer(tokens=["first"]) as api:
        api.load(objects())
        scene = Scene(api, tmp_path)
        metrics = free_port()
        with program(tmp_path, api, metrics, *options) as server:
            started = [query(each, "udp") for each in STAYS]
            await asyncio.to_thread(settle, server.port, started)
            for _ in range(3):
                scene.change()
            await asyncio.to_thread(settle, server.port, scene.probes.questions())
            asker = Asker(server.port)
            with asker.asking():
                await fault.act(scene)
                api.bookmark()
                await asyncio.to_thread(settle, server.port, scene.probes.questions())
            healed = await asyncio.to_thread(counted, metrics, "kdns_audit_faults_total")
            told = await asyncio.to_thread(server.stop)
    assert asker.wrong == []
    assert asker.right > 0
    assert (healed > 0) is (fault.name == "dropped")
    assert "Traceback" not in told
