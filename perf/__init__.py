"""The load-test harness: how much a DNS server answers, how late, and at what cost."""
