"""What was counted, by everybody who answers and by those who did before: their sums.

Blocks are known by the labels of their metrics, so what counts for one Corefile and what counts for
the next add up where the labels are the same, and stay where they are not: totals never fall.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from kdns.plugins.block import Block, Counters
from kdns.telemetry.meters import Sample, merge

MAX_PAST = 1_000
"""Zones, and label values of one metric, that are remembered though nobody counts them now."""


@dataclass(slots=True)
class BlockTotal:
    """One zone of a block. label, zone: as metrics name it; counted: whether they do."""

    label: str
    zone: str
    counted: bool
    counters: Counters


@dataclass(slots=True)
class Totals:
    """Of the zones of blocks, and of everything else that is counted."""

    blocks: list[BlockTotal] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


def totals(blocks: Iterable[Block], samples: list[Sample]) -> Totals:
    """What one process counts."""
    found: list[BlockTotal] = []
    for block in blocks:
        for zone, counters in zip(block.zones, block.by_zone, strict=True):
            counters.settle()
            found.append(BlockTotal(block.label, zone, block.counted, counters))
    return Totals(found, samples)


def together(several: Iterable[Totals]) -> Totals:
    """The sums. Nothing of what is given is changed, but it may be part of the result."""
    several = list(several)
    if len(several) == 1:
        return several[0]
    sums: dict[tuple[str, str], BlockTotal] = {}
    for one in several:
        for block in one.blocks:
            key = (block.label, block.zone)
            total = sums.get(key)
            if total is None:
                total = sums[key] = BlockTotal(*key, counted=False, counters=Counters())
            total.counted = total.counted or block.counted
            total.counters.add(block.counters)
    return Totals(list(sums.values()), merge(one.samples for one in several))


def past(gone: Iterable[Totals]) -> Totals:
    """The sums of those who count no more. Their gauges are nothing; the newest labels are kept."""
    sums = together(gone)
    kept: list[Sample] = []
    for sample in sums.samples:
        if sample.kind not in ("gauge", "peak"):
            sample.numbers = sample.numbers[-MAX_PAST:]
            sample.histograms = sample.histograms[-MAX_PAST:]
            kept.append(sample)
    return Totals(sums.blocks[-MAX_PAST:], kept)
