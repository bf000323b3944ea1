"""Two records compared: has a subject become better or worse, as seen from a peer beside it?

For each figure of each key the ratio of the subject to the peer is taken in every round, of the old
record and of the new; what is judged is how these ratios changed. So a faster machine, or a busier
one, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from perf.metrics import CPU, P99, PEERS, QPS, RSS, Metric, quotients, rounds
from perf.record import Key, Record, load
from perf.stats import Change, Ratio, change, paired_ratio, summary

JUDGED: Final = (CPU, QPS, P99, RSS)
SUBJECT: Final = "kdns"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one figure changed. old, new: the median ratio of the subject to the peer."""

    key: Key
    metric: Metric
    peer: str
    old: float
    new: float
    ratio: Ratio
    change: Change

    @property
    def worse(self) -> bool:
        """Whether it changed for the worse, beyond noise."""
        return self.change == ("fell" if self.metric.higher_is_better else "rose")

    @property
    def text(self) -> str:
        """The verdict in a word or three."""
        if self.change in {"rose", "fell"}:
            return "worse" if self.worse else "better"
        return "no difference beyond noise" if self.change == "noise" else self.change


def verdicts(old: Record, new: Record, subject: str = SUBJECT) -> Iterator[Verdict]:
    """One for each figure that both records have of the subject and of a peer."""
    for key in old.keys:
        for metric in JUDGED:
            # What comes as fast as it is asked says nothing by its rate, nor a queue by its length.
            if metric is (P99 if key.mode == "max" else QPS):
                continue
            made = _verdict(old, new, subject, key, metric)
            if made is not None:
                yield made


def _verdict(old: Record, new: Record, subject: str, key: Key, metric: Metric) -> Verdict | None:
    for peer in PEERS:
        before = quotients(*rounds(old, key, metric, (peer, subject)))
        after = quotients(*rounds(new, key, metric, (peer, subject)))
        pairs = min(len(before), len(after))
        if pairs and peer != subject:
            found = paired_ratio(before[:pairs], after[:pairs])
            middles = summary(before).median, summary(after).median
            return Verdict(key, metric, peer, *middles, found, change(found))
    return None


def table(found: list[Verdict], subject: str = SUBJECT) -> Table:
    """The verdicts for people."""
    made = Table(title=f"{subject} against its peers, old and new", title_justify="left")
    for column in ("what", "figure", "peer", "old", "new", "change", "verdict"):
        made.add_column(column, justify="right" if column in {"old", "new"} else "left")
    for v in found:
        style = {"worse": "red", "better": "green"}.get(v.text, "")
        span = f"×{v.ratio.median:.3f} ({v.ratio.low:.3f} to {v.ratio.high:.3f})"
        row = (str(v.key), v.metric.name, v.peer, f"×{v.old:.2f}", f"×{v.new:.2f}", span, v.text)
        made.add_row(*row, style=style)
    return made


def main(old: Path, new: Path, console: Console) -> int:
    """Compare two files: 0 if nothing became worse, 1 if something did, 2 if they share nothing.

    Raises RecordError.
    """
    found = list(verdicts(load(old), load(new)))
    if not found:
        console.print(f"the records share nothing of {SUBJECT} and a peer: {', '.join(PEERS)}")
        return 2
    console.print(table(found))
    worse = [v for v in found if v.worse]
    console.print(f"{len(found)} figures, {len(worse)} worse")
    return 1 if worse else 0
