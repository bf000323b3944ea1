"""What a server hears before it is ready to act on it."""

import asyncio
import os
import signal

from kdns import serve


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
