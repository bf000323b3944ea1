"""Sums of what processes and earlier Corefiles have counted."""

import pytest

from kdns import totals as module
from kdns.plugins.block import Block
from kdns.telemetry.meters import Meters
from kdns.totals import Totals, past, together, totals

NOTHING = Totals()


def counted(label: str, zone: str, times: int, *, by: str = "test") -> Totals:
    block = Block((zone,), label, counted=True)
    block.counters.count(("udp", 1, 1), (0, by), times)
    meters = Meters()
    meters.counter("asked", "Questions.", ("to",))[by,] += times
    meters.gauge("held", "Replies.")[()] = times
    meters.watch("peak", "known", "Names.", (), lambda: [((), times)])
    return totals([block], meters.sample())


def requests(sums: Totals) -> dict[tuple[str, str], int]:
    return {(b.label, b.zone): sum(b.counters.requests.values()) for b in sums.blocks}


def numbers(sums: Totals, name: str) -> list[tuple[tuple[str, ...], float]]:
    return [number for sample in sums.samples if sample.name == name for number in sample.numbers]


def test_each_zone_of_a_block_is_counted_for_itself() -> None:
    block = Block(("a.", "b."), "dns://:53", counted=True)
    block.by_zone[1].count(("udp", 1, 1), (0, "test"), 2)
    assert requests(totals([block], [])) == {("dns://:53", "a."): 0, ("dns://:53", "b."): 2}


def test_what_has_the_same_labels_is_added_up() -> None:
    sums = together((counted("dns://:53", ".", 2), counted("dns://:53", ".", 3)))
    assert requests(sums) == {("dns://:53", "."): 5}
    assert numbers(sums, "asked") == [(("test",), 5)]
    assert numbers(sums, "known") == [((), 3)]


def test_what_has_other_labels_stays() -> None:
    sums = together((counted("dns://:53", ".", 2), counted("dns://:54", ".", 3)))
    assert requests(sums) == {("dns://:53", "."): 2, ("dns://:54", "."): 3}


def test_adding_up_changes_nothing_of_what_is_added() -> None:
    one = counted("dns://:53", ".", 2)
    together((one, counted("dns://:53", ".", 3)))
    assert requests(one) == {("dns://:53", "."): 2}


def test_gauges_of_who_is_gone_are_nothing() -> None:
    gone = past((NOTHING, counted("dns://:53", ".", 2)))
    assert numbers(gone, "held") == numbers(gone, "known") == []
    assert numbers(gone, "asked") == [(("test",), 2)]


def test_the_past_is_bounded_and_the_newest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAST", 2)
    gone = NOTHING
    for port in range(4):
        gone = past((gone, counted(f"dns://:{port}", ".", 1, by=str(port))))
    assert list(requests(gone)) == [("dns://:2", "."), ("dns://:3", ".")]
    assert numbers(gone, "asked") == [(("2",), 1), (("3",), 1)]
