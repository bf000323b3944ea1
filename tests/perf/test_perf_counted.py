"""Queries by a server's own metrics."""

from perf.counted import parse_requests

EXPOSITION = """\
# HELP coredns_dns_requests_total Counter of DNS requests made per zone, protocol and family.
# TYPE coredns_dns_requests_total counter
coredns_dns_requests_total{family="1",proto="udp",server="dns://:53",type="A",zone="."} 41.0
coredns_dns_requests_total{family="1",proto="tcp",server="dns://:53",type="A",zone="."} 1e3
coredns_dns_requests_total_created 5
kdns_udp_receive_drops_total 7.0
coredns_dns_responses_total{rcode="NOERROR",zone="."} 41.0
"""


def test_all_requests_count_and_so_do_those_that_the_kernel_dropped() -> None:
    assert parse_requests(EXPOSITION) == 41 + 1000 + 7


def test_a_server_that_was_not_asked_counts_none() -> None:
    assert parse_requests("# nothing yet\n") == 0
