"""shed: what is dropped under overload, under the name that CoreDNS's dashboards ask for."""

import pytest

from kdns.corefile.errors import CorefileError
from kdns.plugins import shed
from kdns.plugins.chain import refuse
from tests.plugins.fakes import FakeParts, settings


def test_its_block_is_counted_under_coredns_name() -> None:
    parts = FakeParts()
    configured = settings(shed.parse, "shed")
    assert configured.build(parts, refuse) is refuse
    assert parts.block.sheds
    assert "coredns_shed_dropped_total" in configured.explain()


@pytest.mark.parametrize("text", ["shed 5", "shed {\n}"])
def test_it_takes_nothing(text: str) -> None:
    with pytest.raises(CorefileError, match=r"^Corefile:2: shed: expected"):
        settings(shed.parse, text)
