"""A record as one HTML page that needs nothing else: pictures first, then every figure."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby

from perf.metrics import (
    BUSY,
    CPU,
    METRICS,
    P50,
    P99,
    PALETTE,
    PEERS,
    QPS,
    RSS,
    Metric,
    median,
    ratio,
    reference,
    values,
)
from perf.page import document
from perf.plan import SWEPT
from perf.record import Key, Record
from perf.stats import summary
from perf.svg import Line, Point, Strip, lines, strips
from perf.workloads import SPECS

_INK = "#1f2933"
_SATURATED = 90
_HINTS = (
    (
        "<b>max</b>: a fixed number of questions is unanswered at any time, so the server sets the "
        "pace. A * at its share of a core says that it did not: it had time to spare, and the "
        "generator was the slower one."
    ),
    (
        "<b>10,000/s</b> and the like: questions are sent at that rate whatever becomes of them. A "
        "server with little to do reads few at a time, so each costs more than under full load."
    ),
    "<b>echo</b> answers without understanding: what the sockets cost on this machine.",
    (
        "<b>lost</b>: no answer within a second. <b>wrong</b>: another answer than the cluster's "
        "objects call for. <b>not counted</b>: by how many the server's own metrics, kernel drops "
        "included, differ from what it was asked."
    ),
    (
        "A time says as much about the machine as about a server; a ratio to a peer in the same "
        "round says something about the server."
    ),
)


def render(record: Record) -> str:
    """The page. It holds every figure of the record, as medians of the rounds and their spread."""
    body = "".join(
        part
        for section in (_head, _glance, _cpu, _latency, _second, _tables, _left_out, _reading)
        for part in section(record)
    )
    return document("kdns: what a query costs", body)


def _head(record: Record) -> Iterator[str]:
    settings, machine = record.settings, record.machine
    yield "<h1>What a query costs</h1>"
    yield f'<p class="lead">kdns and its peers, {escape(record.made)}</p><dl>'
    share = f"; servers held to {settings.cpu_share} % of a core" if settings.cpu_share else ""
    facts = {
        "machine": f"{machine.cpu}, {machine.cores} cores; {machine.kernel}; "
        f"Python {machine.python}",
        "placement": record.placement,
        "runs": f"{settings.repeat} rounds of {settings.seconds:g} s each, subjects in turn; "
        f"seed {settings.seed}{share}",
        "subjects": "; ".join(record.versions.values()),
    }
    for name, text in facts.items():
        yield f"<dt>{name}</dt><dd>{escape(text)}</dd>"
    yield "</dl>"


def _glance(record: Record) -> Iterator[str]:
    keys = [key for key in record.keys if key.mode == "max"] or record.keys
    yield "<h2>At a glance</h2><p>CPU time per query, and below it how much that is of what the "
    yield f"first peer takes of {', '.join(PEERS)}, in the same rounds.</p>"
    yield '<div class="scroll"><table><thead><tr><th>µs per query</th>'
    yield "".join(f"<th>{escape(s)}</th>" for s in record.subjects)
    yield "</tr></thead><tbody>"
    for key in keys:
        yield f"<tr><td>{escape(str(key))}</td>"
        yield from (_glanced(record, key, subject) for subject in record.subjects)
        yield "</tr>"
    yield "</tbody></table></div>"


def _glanced(record: Record, key: Key, subject: str) -> str:
    found = median(record, key, subject, CPU)
    own = ' class="own"' if subject == "kdns" else ""
    if found is None:
        return f"<td{own}>–</td>"
    small = f"<small>{_against(record, key, subject, CPU)}</small>"
    return f"<td{own}>{CPU.text(found.median)}{small}</td>"


def _cpu(record: Record) -> Iterator[str]:
    keys = [key for key in record.keys if key.mode == "max"] or record.keys
    yield "<h2>CPU time per query</h2><p>A dot for each round, a bar for their median.</p>"
    yield '<div class="grid">'
    for key in keys:
        rows = [
            Strip(subject, PALETTE.get(subject, _INK), found)
            for subject in record.subjects
            if (found := values(record, key, subject, CPU))
        ]
        about = SPECS[key.workload].about if key.workload in SPECS else ""
        yield f"<figure><figcaption>{escape(str(key))} <span>{escape(about)}</span></figcaption>"
        yield f"{strips(str(key), rows, 'µs of CPU per query')}</figure>"
    yield "</div>"


def _latency(record: Record) -> Iterator[str]:
    groups = [(w, m) for w in SWEPT for m in (P50, P99) if len(_swept(record, w)) > 1]
    if not groups:
        return
    yield '<h2 class="page">Latency against offered load</h2>'
    yield "<p>Measured from when a query was due, so a server that stalls is charged for those "
    yield "that had to wait. Bars reach from the best round to the worst.</p>"
    yield '<div class="grid">'
    for workload, metric in groups:
        keys = _swept(record, workload)
        found = [_latency_line(record, keys, subject, metric) for subject in record.subjects]
        title = f"{workload}/udp, {metric.name}"
        picture = lines(title, [x for x in found if x.points], "queries per second", metric.unit)
        yield f"<figure><figcaption>{escape(title)}</figcaption>{picture}</figure>"
    yield "</div>"


def _swept(record: Record, workload: str) -> list[Key]:
    found = (k for k in record.keys if (k.workload, k.transport) == (workload, "udp"))
    return sorted((k for k in found if k.rate is not None), key=lambda k: k.rate or 0)


def _latency_line(record: Record, keys: list[Key], subject: str, metric: Metric) -> Line:
    points = []
    for key in keys:
        if found := values(record, key, subject, metric):
            middle = median(record, key, subject, metric)
            assert middle is not None  # there are values
            points.append(Point(key.rate or 0, middle.median, min(found), max(found)))
    return Line(subject, PALETTE.get(subject, _INK), points)


def _second(record: Record) -> Iterator[str]:
    if not record.second:
        return
    yield "<h2>A second opinion</h2><p>The same questions by dnsperf, as fast as they are "
    yield "answered: medians of the server's CPU time per answer in µs, and of answers per second. "
    yield "It checks no answer, and tells no percentiles.</p>"
    yield '<div class="scroll"><table><thead><tr><th></th>'
    yield "".join(f"<th>{escape(subject)}</th>" for subject in record.subjects)
    yield "</tr></thead><tbody>"
    for workload in dict.fromkeys(one.workload for one in record.second):
        yield f"<tr><td>{escape(workload)}/udp</td>"
        for subject in record.subjects:
            of = [o for o in record.second if (o.workload, o.subject) == (workload, subject)]
            own = ' class="own"' if subject == "kdns" else ""
            if not of:
                yield f"<td{own}>–</td>"
                continue
            cpu, qps = summary([o.cpu_us for o in of]), summary([o.qps for o in of])
            yield f"<td{own}>{cpu.median:.2f}<small>{qps.median:,.0f} q/s</small></td>"
        yield "</tr>"
    yield "</tbody></table></div>"


def _tables(record: Record) -> Iterator[str]:
    yield '<h2 class="page">Every figure</h2>'
    yield "<p>Medians of the rounds; in small their spread (the median distance from the "
    yield "median), and the ratio to the first peer.</p>"
    for workload, keys in groupby(record.keys, key=lambda key: key.workload):
        about = SPECS[workload].about if workload in SPECS else ""
        yield f"<h3>{escape(workload)}: {escape(about)}</h3>"
        for key in keys:
            yield from _table(record, key)


def _table(record: Record, key: Key) -> Iterator[str]:
    yield '<div class="scroll"><table><thead><tr>'
    yield f"<th>{escape(str(key))}</th>"
    yield "".join(f"<th>{m.name}<br/>{m.unit}</th>" for m in METRICS)
    yield "<th>lost</th><th>wrong</th><th>not counted</th></tr></thead><tbody>"
    for subject in record.subjects:
        if record.of(key, subject):
            own = ' class="own"' if subject == "kdns" else ""
            yield f"<tr{own}><td>{escape(subject)}</td>"
            yield from (_cell(record, key, subject, metric) for metric in METRICS)
            yield f"{_troubles(record, key, subject)}</tr>"
    yield "</tbody></table></div>"


def _cell(record: Record, key: Key, subject: str, metric: Metric) -> str:
    found = median(record, key, subject, metric)
    assert found is not None  # the caller saw runs
    small = f"±{metric.text(found.spread)}"
    if metric in {QPS, CPU, P99, RSS}:
        small = f"{small}<br/>{_against(record, key, subject, metric)}"
    text = metric.text(found.median)
    if metric is BUSY and key.mode == "max" and found.median < _SATURATED:
        text += "*"
    return f"<td>{text}<small>{small}</small></td>"


def _troubles(record: Record, key: Key, subject: str) -> str:
    runs = record.of(key, subject)
    lost = sum(run.figures.load.lost for run in runs)
    wrong = sum(run.figures.load.wrong for run in runs)
    sent = sum(run.figures.load.sent for run in runs)
    marks = [' class="bad"' if n and subject != "echo" else "" for n in (lost, wrong)]
    share = f"<small>{lost / sent:.2%}</small>" if lost else ""
    said = "n/a" if subject == "echo" else f"{wrong:,}"
    missed = [
        abs(f.counted - f.load.sent) for f in (r.figures for r in runs) if f.counted is not None
    ]
    mark = ' class="bad"' if sum(missed) else ""
    counted = f"<td{mark}>{sum(missed):,}</td>" if missed else "<td>n/a</td>"
    return f"<td{marks[0]}>{lost:,}{share}</td><td{marks[1]}>{said}</td>{counted}"


def _against(record: Record, key: Key, subject: str, metric: Metric) -> str:
    peer = reference(record, key)
    if peer is None or peer == subject:
        return ""
    found = ratio(record, key, subject, peer, metric)
    return "" if found is None else f"×{found.median:.2f}&#160;{escape(peer)}"


def _left_out(record: Record) -> Iterator[str]:
    if not record.skipped:
        return
    yield "<h2>What was left out</h2><ul>"
    for one in record.skipped:
        what = f"{one.subject}, {one.workload}" if one.workload else one.subject
        yield f"<li>{escape(what)}: {escape(one.reason)}</li>"
    yield "</ul>"


def _reading(_record: Record) -> Iterator[str]:
    yield f"<h2>How to read this</h2><ul>{''.join(f'<li>{line}</li>' for line in _HINTS)}</ul>"
