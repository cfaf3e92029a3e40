"""Learning-rate schedules as data: the rate is a pure function of (epoch, batch).

``constant`` the base rate throughout.
``paper``    S(m1, m2, lr_max, lr_min) of Appendix A: lr_max up to epoch m1, lr_min from epoch
             m2, linear between them. For a constant rate the paper's text writes S(0, 0, 0, lr, lr),
             which has one zero too many; here the arguments are in the order of the definition.
``cyclic``   triangular between lr_min and lr_max (Smith 2015), one cycle in ``period`` epochs.
``anneal``   the base rate up to the fraction ``start`` of the run, then a cosine decay to
             ``factor`` times the base rate. The final decay decides the height of a path.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from topo_core.paths.setting_checks import check_number

ScheduleName = Literal["constant", "paper", "cyclic", "anneal"]

_KEYS: dict[str, tuple[str, ...]] = {
    "constant": (),
    "paper": ("m1", "m2", "lr_max", "lr_min"),
    "cyclic": ("lr_min", "lr_max", "period"),
    "anneal": ("start", "factor"),
}
_DEFAULTS = {"start": 0.5, "factor": 0.02}


@dataclass(frozen=True)
class Schedule:
    """A schedule and its numbers; numbers of another schedule must be None.

    Attributes:
        m1, m2: epochs between which ``paper`` goes from ``lr_max`` to ``lr_min``.
        lr_max, lr_min: rates of ``paper`` and ``cyclic``; they replace the base rate.
        period: epochs in a cycle of ``cyclic``.
        start, factor: where ``anneal`` begins (fraction of the run, 0.5 by default) and the
            factor on the base rate at its end (0.02 by default).

    Raises:
        ValueError: a number is missing, is not one of this schedule, or is out of range.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: ScheduleName = "constant"
    m1: float | None = None
    m2: float | None = None
    lr_max: float | None = None
    lr_min: float | None = None
    period: float | None = None
    start: float | None = None
    factor: float | None = None

    def __post_init__(self) -> None:
        if self.name not in get_args(ScheduleName):
            raise ValueError(f"schedule.name is {self.name!r}; choose one of {', '.join(_KEYS)}.")
        wanted = _KEYS[self.name]
        for key in ("m1", "m2", "lr_max", "lr_min", "period", "start", "factor"):
            value = getattr(self, key)
            if key not in wanted:
                if value is not None:
                    raise ValueError(
                        f"schedule.{key} is {value}, but the schedule {self.name!r} takes "
                        f"{', '.join(wanted) or 'no numbers'}; leave it out."
                    )
                continue
            if value is None:
                if key not in _DEFAULTS:
                    raise ValueError(
                        f"schedule.{key} is missing, and the schedule {self.name!r} needs "
                        f"{', '.join(wanted)}; give it."
                    )
                object.__setattr__(self, key, _DEFAULTS[key])
            else:
                check_number(f"schedule.{key}", value, positive=False)
        self._check_order()

    def _check_order(self) -> None:
        if self.name == "paper" and self.number("m2") < self.number("m1"):
            raise ValueError(
                f"schedule.m2 is {self.m2}, before m1 = {self.m1}; it must be m1 or later."
            )
        if self.name == "cyclic" and self.number("period") <= 0:
            raise ValueError(f"schedule.period is {self.period}; it must be above 0 epochs.")
        if self.name == "anneal" and self.number("start") > 1:
            raise ValueError(
                f"schedule.start is {self.start}; it is a fraction of the run, at most 1."
            )

    def number(self, key: str) -> float:
        """The number ``key`` of this schedule; ``__post_init__`` ensures that it is not None."""
        return float(getattr(self, key))

    def rate(self, epoch: int, batch: int, batches: int, base_lr: float, epochs: int) -> float:
        """The rate of minibatch ``batch`` (from 0) of ``epoch`` (from 0).

        ``batches`` is their number in an epoch, ``epochs`` the length of the run.
        """
        now = epoch + batch / batches
        if self.name == "paper":
            return self._paper(now)
        if self.name == "cyclic":
            return self._cyclic(now)
        if self.name == "anneal":
            return base_lr * self._anneal(now, epochs)
        return base_lr

    def depends_on_epochs_from(self, epochs: int) -> int:
        """The first epoch whose rates would change if ``epochs`` were larger."""
        if self.name != "anneal":
            return epochs
        return min(epochs, math.floor(self.number("start") * epochs))

    def _paper(self, now: float) -> float:
        first, last = self.number("m1"), self.number("m2")
        high, low = self.number("lr_max"), self.number("lr_min")
        if high == low:  # tested first: the fraction below is 0/0 when m1 = m2
            return high
        if now <= first:
            return high
        if now >= last:
            return low
        fraction = (now - first) / (last - first)
        return (1 - fraction) * high + fraction * low

    def _cyclic(self, now: float) -> float:
        low, high = self.number("lr_min"), self.number("lr_max")
        phase = (now / self.number("period")) % 1.0
        return low + (high - low) * (1 - abs(2 * phase - 1))

    def _anneal(self, now: float, epochs: int) -> float:
        begin = self.number("start") * epochs
        if now <= begin:
            return 1.0
        fraction = min(1.0, (now - begin) / (epochs - begin))
        factor = self.number("factor")
        return factor + (1 - factor) * 0.5 * (1 + math.cos(math.pi * fraction))
