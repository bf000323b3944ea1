"""Who is held back for the sake of the others, and for how long."""

from kdns.net.greedy import AT_ONCE, LEAST_KEPT, LESS, MORE, Greedy


def client(number: int) -> bytes:
    return bytes([10, 0, number // 256, number % 256])


def seen(*counts: int) -> Greedy:
    """Clients 0, 1 and so on have asked so often."""
    greedy = Greedy()
    greedy.sample([client(n) for n, count in enumerate(counts) for _ in range(count)])
    return greedy


def test_who_has_more_than_twice_what_any_other_has_is_held_back() -> None:
    greedy = seen(60, 2, 2)
    assert greedy.harden()
    assert greedy.kept == {client(0): LESS}


def test_more_and_more_of_it_is_dropped_but_never_all() -> None:
    greedy = seen(60, 2, 2)
    while greedy.harden():
        pass
    assert greedy.kept == {client(0): LEAST_KEPT}


def test_a_client_alone_takes_nobodys_place() -> None:
    assert not seen(64).harden()


def test_clients_that_ask_alike_are_all_served_alike() -> None:
    assert not seen(40, 24).harden()


def test_a_few_questions_prove_nothing() -> None:
    assert not seen(20, 1).harden()


def test_old_counts_fade() -> None:
    greedy = seen(60, 2)
    for _ in range(20):
        greedy.sample([client(5)] * 32 + [client(6)] * 32)
    assert not greedy.harden()


def test_only_a_few_are_held_back_at_a_time() -> None:
    greedy = Greedy()
    for number in range(2 * AT_ONCE):
        for _ in range(20):
            greedy.sample([client(number)] * 62 + [client(99)] * 2)
        greedy.harden()
    assert len(greedy.kept) == AT_ONCE


def test_no_number_of_clients_fills_memory() -> None:
    greedy = Greedy()
    greedy.sample([client(number) for number in range(5000)])
    assert len(greedy._seen) < 1000


def test_step_by_step_it_is_let_in_again() -> None:
    greedy = seen(60, 2)
    greedy.harden()
    greedy.harden()
    assert greedy.relax(over=False)
    assert greedy.kept == {client(0): LESS * LESS * MORE}
    while greedy.relax(over=False):
        pass
    assert greedy.kept == {}


def test_and_at_once_when_the_flood_is_over() -> None:
    greedy = seen(60, 2)
    greedy.harden()
    assert greedy.relax(over=True)
    assert greedy.kept == {}
    assert not greedy.relax(over=True)
