"""The report: one well-formed page that holds every figure and needs nothing else."""

import io
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from perf.dnsperf import Second
from perf.metrics import METRICS, median, values
from perf.plan import Cell
from perf.record import Record, Run, Skipped
from perf.report import render
from perf.svg import Line, Point, Strip, lines, strips
from perf.view import View
from tests.perf.builders import FAST, PACED, PACED_MORE, figures, record

COSTS = {"kdns": [5.5, 5.25, 6.75], "knot": [4.5, 4.25, 4.75], "echo": [3.5, 3.25, 3.125]}


@pytest.fixture
def made() -> Record:
    skipped = [Skipped("dnsmasq", "", "not <installed> & gone")]
    return record(COSTS, keys=(FAST, PACED, PACED_MORE), skipped=skipped)


def parsed(page: str) -> ET.Element:
    kind, _, rest = page.partition("\n")
    assert kind == "<!DOCTYPE html>"
    return ET.fromstring(rest)


def words(element: ET.Element) -> str:
    return " ".join(element.itertext())


def test_the_page_is_well_formed(made: Record) -> None:
    assert parsed(render(made)).tag == "html"


def test_the_page_holds_every_figure(made: Record) -> None:
    tables = list(parsed(render(made)).iter("table"))
    for key in made.keys:
        table = next(t for t in tables[1:] if str(key) in words(t))
        rows = {words(row[0]): words(row) for row in table.iter("tr")}
        for subject in COSTS:
            for metric in METRICS:
                found = median(made, key, subject, metric)
                assert found is not None
                assert metric.text(found.median) in rows[subject]
                assert f"±{metric.text(found.spread)}" in rows[subject]


def test_the_page_names_machine_versions_and_what_was_left_out(made: Record) -> None:
    text = words(parsed(render(made)))
    for expected in ("Some CPU", "4 cores", "Linux 6.1", "3.12.1", "server on core 0", "knot 1.2"):
        assert expected in text
    assert "dnsmasq: not <installed> & gone" in text


def test_figures_stand_beside_their_ratio_to_the_peer(made: Record) -> None:
    glance = next(parsed(render(made)).iter("table"))
    assert "×1.24\xa0knot" in words(glance)


def test_the_page_needs_nothing_from_elsewhere(made: Record) -> None:
    page = render(made).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|src=|href=|url\(|@import|<script|<link", page)


def test_every_round_is_a_dot(made: Record) -> None:
    svg = "{http://www.w3.org/2000/svg}"
    pictures = list(parsed(render(made)).iter(f"{svg}svg"))
    rounds = len(values(made, FAST, "kdns", METRICS[0])) * len(COSTS)
    assert len(list(pictures[0].iter(f"{svg}circle"))) == rounds


def test_a_swept_workload_has_its_curves(made: Record) -> None:
    page = parsed(render(made))
    assert [words(c) for c in page.iter("figcaption")][1:] == [
        "cluster/udp, p50",
        "cluster/udp, p99",
    ]
    unswept = record(COSTS)
    assert "against offered load" not in render(unswept)


def test_a_record_without_runs_is_a_page_still() -> None:
    parsed(render(record({"kdns": []})))


def test_a_record_without_a_peer_has_no_ratios() -> None:
    assert "×" not in render(record({"kdns": COSTS["kdns"]}))


def test_who_is_slower_than_the_generator_is_not_marked(made: Record) -> None:
    busy = record({"kdns": [20.0] * 3})
    assert "100*" not in render(busy)
    assert "28*" in render(made)  # 5.5 µs, 50,000 times a second


@pytest.mark.parametrize("value", [0.0, 1e-9, 0.3, 7.0, 99.0, 1e6])
def test_strips_stay_inside_the_picture(value: float) -> None:
    picture = ET.fromstring(strips("t", [Strip("a", "#000", [value, value / 2])], "µs"))
    width = float(picture.attrib["viewBox"].split()[2])
    for dot in picture.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 <= float(dot.attrib["cx"]) <= width


def test_lines_stay_inside_the_picture() -> None:
    points = [Point(10, 1, 0.2, 2), Point(70_000, 900, 5, 123_456)]
    picture = ET.fromstring(lines("t", [Line("a", "#000", points)], "q/s", "µs"))
    _, _, width, height = map(float, picture.attrib["viewBox"].split())
    for mark in picture.iter("{http://www.w3.org/2000/svg}line"):
        assert all(0 <= float(mark.attrib[x]) <= width for x in ("x1", "x2"))
        assert all(0 <= float(mark.attrib[y]) <= height for y in ("y1", "y2"))


def test_no_lines_are_said_to_be_none() -> None:
    assert "nothing was measured" in lines("t", [], "q/s", "µs")


def test_the_view_tells_each_run_where_there_is_no_terminal(made: Record) -> None:
    said = io.StringIO()
    with View(Console(file=said, width=120)) as view:
        view.begin(len(made.runs))
        view.note("knot: not installed")
        for run in made.runs[:3]:
            view.running(run.subject, Cell(*run.key), run.repetition)
            view.done(run)
        view.passed()
    text = said.getvalue()
    assert "knot: not installed" in text
    assert "cluster/udp max kdns 1: 50,000 q/s · CPU 5.50 · p99 800" in text
    assert all(subject in text for subject in COSTS)


def test_the_view_says_how_many_answers_were_lost_or_wrong() -> None:
    lossy = figures(5.0, lost=1_234)
    wrong = replace(lossy, load=replace(lossy.load, wrong=17))
    console = Console(width=120)
    view = View(Console(file=io.StringIO()))
    for subject in ("kdns", "echo"):
        view.done(Run(subject, FAST, 0, wrong))
    with console.capture() as capture:
        console.print(view.table())
    assert capture.get().count("1,234 lost") == 2
    assert capture.get().count("17 wrong") == 1  # an echo is never right


def test_the_page_has_the_second_opinion_beside_each_other(made: Record) -> None:
    seen = [
        Second(subject, "search", number, 1000, 1000, 1000.0 * number, cpu)
        for subject, costs in COSTS.items()
        for number, cpu in enumerate(costs)
    ]
    text = words(parsed(render(replace(made, second=seen))))
    assert "search/udp" in text
    assert "5.50 1,000 q/s" in text
    assert "4.50 1,000 q/s" in text


def test_the_page_says_by_how_many_queries_metrics_are_wrong(made: Record) -> None:
    run = made.runs[0]
    counted = replace(run.figures, counted=run.figures.load.sent - 3)
    page = render(replace(made, runs=[replace(run, figures=counted), *made.runs[1:]]))
    bad = [words(cell) for cell in parsed(page).iter("td") if cell.get("class") == "bad"]
    assert bad == ["3"]
