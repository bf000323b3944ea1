"""Numbers by chance, many at a time."""

from random import Random

from kdns.plugins.dice import Dice


class Asked(Random):
    """Counts how often it was asked."""

    times = 0

    def randbytes(self, n: int) -> bytes:
        self.times += 1
        return super().randbytes(n)


def test_each_number_comes_about_as_often() -> None:
    dice = Dice(Random(1))
    thrown = [dice.below(3) for _ in range(3000)]
    assert all(900 < thrown.count(number) < 1100 for number in (0, 1, 2))


def test_the_source_is_asked_rarely() -> None:
    source = Asked(1)
    dice = Dice(source)
    for _ in range(1000):
        dice.draw()
    assert source.times == 2


def test_an_id_is_none_that_is_taken() -> None:
    taken = set(range(0x10000)) - {7, 9}
    assert Dice(Random(1)).ident(taken) in {7, 9}
