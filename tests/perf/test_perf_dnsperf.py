"""What dnsperf is given, and what it says."""

from pathlib import Path

import pytest

from perf import dnsperf
from perf.workloads import Question

SAID = """\
DNS Performance Testing Tool
Statistics:

  Queries sent:         243786
  Queries completed:    243780 (100.00%)
  Queries lost:         6 (0.00%)

  Response codes:       NOERROR 243780 (100.00%)
  Run time (s):         1.000743
  Queries per second:   243599.005938
"""


def test_its_statistics_are_read() -> None:
    assert dnsperf.parse(SAID) == (243786, 243780, 243599.005938)


def test_other_words_are_an_error_that_repeats_them() -> None:
    with pytest.raises(dnsperf.NotMeasured, match="unable to open"):
        dnsperf.parse("Error: unable to open file")


def test_a_question_is_a_name_and_a_type(tmp_path: Path) -> None:
    path = tmp_path / "questions"
    asked = [Question("a.example.", "A", 0, ()), Question("b.example.", "SRV", 3, ())]
    dnsperf.write_questions(asked, path)
    assert path.read_text() == "a.example. A\nb.example. SRV\n"
