"""Which simplex kills which class: persistent cohomology over Z/2, by annotations.

Every r-simplex carries a vector of bits, one bit for each class of H^r that is alive: what the
classes' cocycles are worth on it (Busaryev, Cabello, Chen, Dey & Wang 2012; Boissonnat, Dey &
Maria 2015). Going up the filtration, an r-simplex that killed nothing gives birth to a class and
gets a bit of its own. The vectors on the boundary of an (r+1)-simplex add up to zero where every
class survives it; else the youngest class in their sum dies, and adding the sum to all vectors
with its bit takes it out of them.

What adds up to zero does so for ever. So simplices are looked at many at a time, and those
alone one by one that do not; and once no class is alive and none can be born, the rest are not
looked at. When all triangles on n vertices come after all edges these are most of them, as in
a random complex, whose last loop dies at about 2 log(n) / n of all triangles.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topo_core.homology.filtrations import Filtration

_WORD = 64
_BLOCK = 4096  # simplices that are looked at together
_SPARSE = 8  # fewer holders of a bit than one in so many are changed one by one, else in a sweep
_CROWDED = 4  # with fewer bits alive than one in so many, these are moved together
_ONE = np.uint64(1)


@dataclass(frozen=True)
class Pairing:
    """Births and deaths of H_r, as rows in ``Filtration.simplices``.

    Attributes:
        born: rows of r-simplices.
        killed: rows of the (r+1)-simplices that end these classes; -1 where nothing does.
    """

    born: NDArray[np.int64]
    killed: NDArray[np.int64]


def pairings(filtration: Filtration, max_index: int) -> list[Pairing]:
    """Of index 0 to ``max_index``, or to the dimension of the filtration where that is lower.

    Simplices are in the order of their values, faces first; ties in the order of their rows.
    """
    found: list[Pairing] = []
    # One class of the complex without simplices is killed by the first vertex: reduced homology.
    first = np.argsort(filtration.values[0], kind="stable")[:1]
    killers = first
    for index in range(min(max_index, filtration.dimension) + 1):
        pairing = _paired(filtration, index, killers)
        killers = pairing.killed[pairing.killed >= 0]
        if index == 0:
            born = np.append(first, pairing.born)
            pairing = Pairing(born, np.append(np.full(len(first), -1), pairing.killed))
        found.append(pairing)
    return found


def _paired(filtration: Filtration, index: int, killers: NDArray[np.int64]) -> Pairing:
    """The pairs of dimension ``index`` and the next; ``killers`` ended classes one below."""
    values = filtration.values[index]
    order = np.argsort(values, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    free = np.ones(len(order), dtype=bool)
    free[rank[killers]] = False
    births = np.flatnonzero(free)  # by rank, like everything about r-simplices below
    killed_by = dict[int, int]()
    if index < filtration.dimension:
        alive = _Annotations(len(order))
        above = filtration.values[index + 1]
        later = np.argsort(above, kind="stable")
        entered = np.searchsorted(values[order], above[later], side="right")
        for start in range(0, len(later), _BLOCK):
            if not alive.count and alive.born == len(births):
                break
            block = later[start : start + _BLOCK]
            # A class cannot change what is in the sum of a boundary that came before it.
            alive.enter(births, int(entered[start : start + _BLOCK][-1]))
            faces = rank[filtration.faces(index + 1, block)]
            for place in alive.meeting(faces):
                born = alive.kill(faces[place])
                if born is not None:
                    killed_by[born] = int(block[place])
    killed = np.array([killed_by.get(born, -1) for born in births.tolist()], dtype=np.int64)
    return Pairing(order[births], killed)


class _Annotations:
    """The bits of all r-simplices, in the order in which these enter.

    ``words[w, e]`` holds the bits 64 w to 64 w + 63 of simplex e: all simplices that have a
    certain bit lie beside each other, and the bits are in the order of their births.
    """

    def __init__(self, simplices: int) -> None:
        self.words = np.zeros((1, simplices), dtype=np.uint64)
        self.owner = np.empty(0, dtype=np.int64)  # of each bit, the simplex at its birth
        self.alive = np.empty(0, dtype=bool)
        self.count = 0  # bits alive
        self.born = 0  # classes so far
        self.entered = 0  # simplices so far

    def enter(self, births: NDArray[np.int64], until: int) -> None:
        """The simplices before ``until`` are there, and those in ``births`` have a bit each."""
        self.entered = max(self.entered, until)
        new = births[self.born : np.searchsorted(births, self.entered)]
        if self.count < len(self.alive) // _CROWDED:
            self._compact()
        first = len(self.alive)
        bits = first + np.arange(len(new))
        self.owner = np.append(self.owner, new)
        self.alive = np.append(self.alive, np.ones(len(new), dtype=bool))
        needed = -(-len(self.alive) // _WORD)
        if needed > len(self.words):
            room = np.zeros((max(needed, 2 * len(self.words)), self.words.shape[1]), np.uint64)
            room[: len(self.words)] = self.words
            self.words = room
        self.words[bits // _WORD, new] = _ONE << (bits % _WORD).astype(np.uint64)
        self.born += len(new)
        self.count += len(new)

    def meeting(self, faces: NDArray[np.int64]) -> list[int]:
        """The rows of ``faces`` [m, r + 2] with a class that does not survive them, so far."""
        met = np.zeros(len(faces), dtype=bool)
        for word in self._used():
            parts = word[faces[:, 0]]
            for column in range(1, faces.shape[1]):
                parts ^= word[faces[:, column]]
            met |= parts != 0
        found: list[int] = np.flatnonzero(met).tolist()
        return found

    def kill(self, faces: NDArray[np.int64]) -> int | None:
        """Take out the youngest class that does not survive a boundary; the simplex it began at."""
        total = np.bitwise_xor.reduce(self._used()[:, faces], axis=1)
        touched = np.flatnonzero(total)
        if not len(touched):
            return None
        top = int(touched[-1])
        bit = int(total[top]).bit_length() - 1
        present = self.words[:, : self.entered]
        held = (present[top] & np.uint64(1 << bit)) != 0
        holders = np.flatnonzero(held)
        if len(holders) * _SPARSE < self.entered:
            self.words[touched[:, None], holders] ^= total[touched, None]
        else:
            mask = np.negative(held.astype(np.uint64))
            for word in touched:
                present[word] ^= mask & total[word]
        gone = top * _WORD + bit
        self.alive[gone] = False
        self.count -= 1
        return int(self.owner[gone])

    def _used(self) -> NDArray[np.uint64]:
        return self.words[: -(-len(self.alive) // _WORD)]

    def _compact(self) -> None:
        """Move the bits that are alive together."""
        kept = np.flatnonzero(self.alive)
        present = self.words[:, : self.entered]
        for start in range(0, len(kept), _WORD):
            word = np.zeros(self.entered, dtype=np.uint64)
            for place, bit in enumerate(kept[start : start + _WORD].tolist()):
                moved = (present[bit // _WORD] >> np.uint64(bit % _WORD)) & _ONE
                word |= moved << np.uint64(place)
            # No bit moves up, so what comes next still lies in later words.
            present[start // _WORD] = word
        present[-(-len(kept) // _WORD) :] = 0
        self.owner, self.alive = self.owner[kept], np.ones(len(kept), dtype=bool)
