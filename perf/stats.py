"""Whether a figure changed: medians of paired runs, and an interval that assumes no distribution.

Runs of two subjects are interleaved, so that whatever else the machine does meets both alike; run i
of one is compared with run i of the other. The true median ratio lies between the k-th smallest
and the k-th largest of n ratios unless fewer than k of them fall on one of its sides, and of that a
fair coin knows the chance: it is the sign test's interval.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Change = Literal["rose", "fell", "noise", "too few runs"]
"""Whether the new figure is higher, lower, not to be told from the old, or cannot be judged."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Some runs of one figure. `spread` is the median distance from `median`, in its unit."""

    median: float
    spread: float
    runs: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """New over old: the median of the pairs, and the interval in which the true one lies.

    `confidence` is the chance that it does, never less than what was asked for unless there are
    too few pairs for that; then the interval is all of them.
    """

    median: float
    low: float
    high: float
    confidence: float
    pairs: int


def summary(values: Sequence[float]) -> Summary:
    """The median of runs and their spread. Raises ValueError for none."""
    if not values:
        raise ValueError("no runs; expected 1 at least")
    middle = statistics.median(values)
    spread = statistics.median([abs(value - middle) for value in values])
    return Summary(middle, spread, len(values))


def paired_ratio(old: Sequence[float], new: Sequence[float], confidence: float = 0.95) -> Ratio:
    """How `new` compares with `old`, run by run.

    Raises ValueError for no runs, for runs without a partner, and for a figure that is not above 0:
    it has no ratio.
    """
    if not old or len(old) != len(new):
        raise ValueError(f"{len(old)} old and {len(new)} new runs; expected as many, 1 at least")
    for value in (*old, *new):
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"a figure of {value}; expected more than 0 for a ratio")
    ratios = sorted(after / before for before, after in zip(old, new, strict=True))
    beyond = 1
    while coverage(len(ratios), beyond + 1) >= confidence:
        beyond += 1
    return Ratio(
        _middle(ratios),
        ratios[beyond - 1],
        ratios[-beyond],
        coverage(len(ratios), beyond),
        len(ratios),
    )


def coverage(pairs: int, beyond: int) -> float:
    """The chance that the true median lies between the smallest and largest but `beyond` - 1.

    0 where these would have changed places.
    """
    if 2 * beyond > pairs + 1:
        return 0.0
    outside = sum(math.comb(pairs, successes) for successes in range(beyond))
    return max(0.0, 1 - outside / (1 << pairs - 1))


def change(ratio: Ratio, least: float = 0.03, confidence: float = 0.95) -> Change:
    """Whether the figure changed beyond noise, and by enough to matter.

    It did when the whole interval lies on one side of 1 and the median is away from 1 by `least` (a
    fraction) or more. At 95 per cent it takes 6 pairs to say anything.
    """
    if ratio.confidence < confidence:
        return "too few runs"
    if ratio.low > 1 and ratio.median >= 1 + least:
        return "rose"
    if ratio.high < 1 and ratio.median <= 1 / (1 + least):
        return "fell"
    return "noise"


def _middle(ratios: Sequence[float]) -> float:
    # Between two ratios lies their geometric mean: old over new is then one over new over old.
    low, high = ratios[(len(ratios) - 1) // 2], ratios[len(ratios) // 2]
    return low if low == high else math.sqrt(low) * math.sqrt(high)
