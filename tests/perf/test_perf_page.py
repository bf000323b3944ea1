"""A scenario as a page: well-formed, whole, with what is wrong in plain sight."""

import re
from xml.etree import ElementTree as ET

import pytest
from rich.table import Table
from rich.text import Text

from perf.measure import Machine
from perf.page import facts_of, page

MACHINE = Machine("Some <CPU>", 2, "Linux 6.1", "3.11.1")


@pytest.fixture
def table() -> Table:
    made = Table("name", "is", title="all & everything", caption="as it was")
    made.add_row("a<b", Text("1"))
    made.add_row("c", "2", style="red")
    return made


def made_of(table: Table, *troubles: str) -> str:
    return page("One", "what it is", facts_of(MACHINE), {"Picture": "<svg/>"}, [table], troubles)


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(table: Table) -> None:
    made = made_of(table, "too much")
    ET.fromstring(made.removeprefix("<!DOCTYPE html>"))
    assert not re.search(r"https?:|src=|href=|url\(|@import|<script|<link", made)


@pytest.mark.parametrize("shown", ["a&lt;b", "all &amp; everything", "as it was", "Some &lt;CPU"])
def test_what_is_in_the_tables_and_the_facts_is_there(table: Table, shown: str) -> None:
    assert shown in made_of(table)


def test_rows_that_stand_out_on_a_terminal_stand_out_here(table: Table) -> None:
    assert '<tr class="bad"><td>c</td><td>2</td></tr>' in made_of(table)


def test_what_is_wrong_is_told_before_anything_is_shown(table: Table) -> None:
    made = made_of(table, "too much")
    assert 0 < made.index('<p class="bad">too much</p>') < made.index("<svg/>")
