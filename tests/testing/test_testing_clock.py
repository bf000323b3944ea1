"""A test's clock moves only when told, and calls what is due in the order of its time."""

from kdns.testing.clock import ManualClock


def test_calls_are_made_in_order_each_at_its_own_time() -> None:
    clock = ManualClock(0.0)
    calls: list[tuple[str, float]] = []
    clock.call_later(2.0, lambda: calls.append(("later", clock.time())))
    clock.call_later(1.0, lambda: calls.append(("sooner", clock.time())))
    clock.advance(0.5)
    assert calls == []
    clock.advance(5.0)
    assert calls == [("sooner", 1.0), ("later", 2.0)]
    assert clock.time() == 5.5


def test_a_cancelled_call_is_not_made_and_one_made_on_the_way_is() -> None:
    clock = ManualClock()
    calls: list[str] = []
    clock.call_later(1.0, lambda: calls.append("cancelled")).cancel()
    clock.call_later(1.0, lambda: clock.call_later(1.0, lambda: calls.append("second")))
    assert clock.waiting == 1
    clock.advance(2.0)
    assert calls == ["second"]
    assert clock.waiting == 0
