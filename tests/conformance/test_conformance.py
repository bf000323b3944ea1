"""The same cluster and the same 4,287 queries as CoreDNS was asked, under four Corefiles.

Nothing may be answered differently but for the better, and nothing that the standard forbids kept.
"""

import asyncio
import gzip
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kdns.cluster.objects import Resource, convert_object
from kdns.compare.scene import Row, Scene
from kdns.compare.verdicts import judge
from kdns.testing.upstream import ZoneServer
from tests.conformance.asking import Json, ask
from tests.serving import serving

DATA = Path(__file__).parent.parent / "data" / "conformance"
ZONE = DATA / "upstream.example.test.zone"


@contextmanager
def upstream() -> Iterator[int]:
    """The upstream's port; it runs in a thread, for the asking is blocking."""
    ready = threading.Event()
    ports: list[int] = []
    stop = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        async with ZoneServer(ZONE) as server:
            loops.append(asyncio.get_running_loop())
            ports.append(server.port)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    ready.wait()
    try:
        yield ports[0]
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()


def local_corefile(name: str, port: int, folder: Path) -> Path:
    """The recorded Corefile with its ports replaced by free ones."""
    text = (DATA / f"{name}.Corefile").read_text().replace(":5310", "")
    text = text.replace("127.0.0.1:5399", f"127.0.0.1:{port}")
    path = folder / "Corefile"
    path.write_text(re.sub(r"127\.0\.0\.1:(8181|8182|9253)", "127.0.0.1:0", text))
    return path


@pytest.mark.parametrize("name", ["kubeadm", "verified", "filtered", "strict"])
def test_as_coredns_or_better(name: str, tmp_path: Path) -> None:
    with gzip.open(DATA / f"{name}.answers.jsonl.gz", "rt") as lines:
        rows: list[Json] = [json.loads(line) for line in lines]
    items = json.loads((DATA / "cluster.json").read_text())["items"]
    kinds = {resource.kind: resource for resource in Resource}
    objects = [convert_object(kinds[item["kind"]], item) for item in items]
    scene = Scene(objects, rows, ("cluster.local.", "k8s.example.org."))
    tally: Counter[str] = Counter()
    wrong: list[str] = []
    with upstream() as port:
        corefile = local_corefile(name, port, tmp_path)
        with serving(corefile, "--manifests", str(DATA / "cluster.json")) as server:
            for recorded in rows:
                row = Row(recorded["q"], recorded["r"], scene)
                got = ask("127.0.0.1", server.port, row.q)
                verdict, rule = judge(row, got)
                tally[verdict] += 1
                if verdict in ("kept", "different"):
                    wrong.append(f"{verdict}: {row.q} {rule and rule.says}\n  {row.want}\n  {got}")
    assert not wrong, f"{dict(tally)}\n" + "\n".join(wrong[:5])
    assert tally["same"] + tally["better"] == len(rows) == 4287
