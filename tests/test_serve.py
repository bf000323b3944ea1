"""What a server hears before it is ready to act on it, and what it says once it is."""

import asyncio
import logging
import os
import signal

import pytest

from kdns import serve
from kdns.corefile.address import Place


async def test_to_be_told_to_reload_too_early_is_to_be_told_once_that_can_be_done() -> None:
    loop = asyncio.get_running_loop()
    before = {n: signal.getsignal(n) for n in (signal.SIGHUP, signal.SIGUSR2)}
    signals = serve._Signals()
    told: list[bool] = []
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        await signals._to_reload.wait()
        signals.on_reload(lambda: told.append(True))
        assert told == [True]
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1):
            loop.remove_signal_handler(number)
        for number, handler in before.items():
            signal.signal(number, handler)


def test_where_it_listens_is_said_as_addresses_are_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    places = [Place("", 53), Place("127.0.0.1", 5353), Place("fe80::1%eth0", 53)]
    serve._say_where([*places, Place("", 853, "tls")])
    assert [record.message for record in caplog.records] == [
        "listening on *:53 (UDP and TCP)",
        "listening on 127.0.0.1:5353 (UDP and TCP)",
        "listening on [fe80::1%eth0]:53 (UDP and TCP)",
        "listening on *:853 (TLS)",
    ]
