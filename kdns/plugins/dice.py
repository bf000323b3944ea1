"""Numbers by chance, drawn many at a time: the kernel's are dear to ask for one by one."""

from array import array
from collections.abc import Container
from random import Random
from typing import Final

_DRAWN: Final = 512
_IDENTS: Final = 0xFFFF


class Dice:
    """As good as its source."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._drawn = array("I")

    def draw(self) -> int:
        """A number below 2**32."""
        if not self._drawn:
            self._drawn = array("I", self._rng.randbytes(_DRAWN * self._drawn.itemsize))
        return self._drawn.pop()

    def below(self, count: int) -> int:
        """One of 0 to count - 1; of 32 bits, so that it matters little whether `count` divides
        them."""
        return self.draw() % count

    def ident(self, taken: Container[int]) -> int:
        """A random ID that is not in `taken`, which must be far from full."""
        while (ident := self.draw() & _IDENTS) in taken:
            pass
        return ident
