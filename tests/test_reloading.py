"""The Corefile that runs is the one that is written."""

import asyncio
from random import Random

import pytest

from kdns.admin.http import AdminServer
from kdns.app import App
from kdns.corefile.errors import CorefileError
from kdns.plan import Plan, make_plan
from kdns.plugins.chaos import Chaos
from kdns.reloading import Reloader, settings
from kdns.sockets import Sockets
from kdns.worker import ToldSources
from tests.test_app import untouched_collector

__all__ = ["untouched_collector"]

FIRST = ". {\n bind 127.0.0.1\n whoami\n}\n"
SECOND = ". {\n bind 127.0.0.1\n chaos v2\n}\n"


class Written:
    """A Corefile on a disk that tests write on."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.error = ""
        self.told: list[str] = []

    def load(self) -> Plan:
        if self.error:
            raise CorefileError(self.error, "Corefile", 3)
        return make_plan(self.text, "Corefile", environ={}, port=0)


async def reloader(written: Written) -> tuple[Reloader, App]:
    plan = written.load()
    app = App(plan, ToldSources(), Random(1), None, AdminServer())
    await app.start()
    return Reloader(app, written.load, lambda _: [Sockets()], Random(1), written.told.append), app


def numbers(app: App, name: str) -> list[float]:
    return [
        number
        for sample in app.totals().samples
        if sample.name == name
        for _, number in sample.numbers
    ]


def runs(app: App) -> list[str]:
    return [known.plugin.name for known in app.running.plan.blocks[0].directives]


async def test_what_is_written_anew_takes_over() -> None:
    written = Written(FIRST)
    looking, app = await reloader(written)
    written.text = SECOND
    await looking.look()
    assert runs(app) == ["bind", "chaos"]
    assert numbers(app, "kdns_reloads") == [1]


@pytest.mark.parametrize(
    "text", [FIRST, f"# another comment\n{FIRST}", FIRST.replace("\n", "\n\n")]
)
async def test_what_says_the_same_changes_nothing(text: str) -> None:
    written = Written(FIRST)
    looking, app = await reloader(written)
    before = app.running
    written.text = text
    await looking.look()
    assert app.running is before


async def test_who_is_told_changes_over_even_to_the_same() -> None:
    """What it names, a resolv.conf say, may be another."""
    looking, app = await reloader(Written(FIRST))
    before = app.running
    await looking.look(forced=True)
    assert app.running is not before


async def test_a_bad_file_leaves_the_present_one_is_counted_and_says_its_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    written = Written(FIRST)
    looking, app = await reloader(written)
    written.error = "frobnicate is not known"
    await looking.look()
    assert runs(app) == ["bind", "whoami"]
    assert numbers(app, "coredns_reload_failed") == [1]
    said = "plugin/reload: Corefile changed but reload failed, the old one goes on"
    assert caplog.messages == [f"{said}: Corefile:3: frobnicate is not known"]


async def test_a_fault_of_ours_leaves_the_present_one_and_is_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written(FIRST)
    looking, app = await reloader(written)
    written.text = SECOND
    monkeypatch.setattr(Chaos, "build", lambda *_: 1 / 0)
    await looking.look()
    assert runs(app) == ["bind", "whoami"]
    assert numbers(app, "coredns_reload_failed") == [1]
    assert "ZeroDivisionError" in caplog.text


async def test_a_file_that_is_mended_takes_over_after_all() -> None:
    written = Written(FIRST)
    looking, app = await reloader(written)
    written.error = "frobnicate is not known"
    await looking.look()
    written.error, written.text = "", SECOND
    await looking.look()
    assert runs(app) == ["bind", "chaos"]


async def test_the_version_is_that_of_what_runs() -> None:
    written = Written(FIRST)
    looking, app = await reloader(written)
    written.text = SECOND
    await looking.look()
    (sample,) = [s for s in app.totals().samples if s.name == "coredns_reload_version_info"]
    assert sample.numbers == [(("sha512", written.load().digest()), 1)]


async def test_a_service_manager_hears_of_the_beginning_and_of_the_end() -> None:
    written = Written(FIRST)
    looking, _ = await reloader(written)
    written.text = SECOND
    await looking.look()
    assert written.told == ["reloading", "ready"]


async def test_it_looks_when_it_is_told() -> None:
    written = Written(FIRST)
    looking, app = await reloader(written)
    changed = asyncio.Event()
    looking = Reloader(
        app,
        written.load,
        lambda _: [Sockets()],
        Random(1),
        lambda said: changed.set() if said == "ready" else None,
    )
    written.text = SECOND
    task = asyncio.create_task(looking.run())
    looking.tell()
    await changed.wait()
    task.cancel()
    assert runs(app) == ["bind", "chaos"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FIRST, None),
        (". {\n reload 10s 2s\n}\n", (10, 2)),
        ("a {\n whoami\n}\nb {\n reload 10s\n}\nc {\n reload 20s\n}\n", (10, 5)),
    ],
)
def test_the_first_reload_directive_is_about_the_whole(
    text: str, expected: tuple[float, float] | None
) -> None:
    found = settings(Written(text).load())
    assert (found and (found.interval, found.jitter)) == expected
