"""What goes wrong in a run, drawn from a seed: the same seed is the same schedule."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .proxy import KINDS, Trouble

INPUTS = ("tar", "folder", "parquet")
KILLED = ("driver", "actor", "task", "node")


@dataclass(frozen=True)
class Strike:
    """When a run has come the share `at` of its way, and `delay` seconds later: one thing fails for good.

    `driver`, `actor`, `task` (a worker that fetches or commits), `node` and the cluster's `head`, which no seed
    draws, are killed, the first moment from then on that there is one; `disk` fills the output's disk until the run
    has ended; `temporary` removes unfinished and temporary files.
    """

    target: str
    at: float
    delay: float


@dataclass(frozen=True)
class Storm:
    """From the share `begin` of a run's requests to `end`, each fails with `rate` in one of the ways `kinds`."""

    begin: float
    end: float
    rate: float
    kinds: tuple[str, ...]

    def trouble(self, requests: int) -> Trouble:
        """The storm for a run that makes so many requests when undisturbed."""
        return Trouble(int(self.begin * requests), int(self.end * requests) + 1, self.rate, self.kinds)


@dataclass(frozen=True)
class Run:
    """The faults of one run of the job."""

    strikes: tuple[Strike, ...] = ()
    storms: tuple[Storm, ...] = ()


@dataclass(frozen=True)
class Schedule:
    """One to two disturbed runs; those that follow are left alone."""

    seed: int
    input: str
    output: str
    runs: tuple[Run, ...]

    def describe(self) -> str:
        """The faults in a line."""
        return " / ".join(_describe(run) for run in self.runs)


# No seed draws it: the driver outlives the head here, as it does not where the job was submitted, and notices late.
HEAD = Schedule(-6, "tar", "s3", (Run((Strike("head", 0.5, 0),)),))


def make(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(seed)
    source, output = rng.choice(INPUTS), rng.choices(("s3", "local"), (3, 1))[0]
    faults = ("strike", "storm") if output == "s3" else ("strike", "strike", "disk", "storm")
    return Schedule(seed, source, output, tuple(_run(rng, faults) for _ in range(rng.choice((1, 1, 2)))))


def _run(rng: random.Random, faults: tuple[str, ...]) -> Run:
    strikes, storms = [], []
    for _ in range(rng.choice((1, 1, 2, 3))):
        kind, begin = rng.choice(faults), round(rng.random(), 2)
        if kind == "storm":
            kinds = tuple(rng.sample(KINDS, rng.randint(1, 3)))
            length = rng.choice((0.1, 0.5, 100.0))
            storms.append(Storm(begin, round(begin + length, 2), rng.choice((0.1, 0.3, 1.0)), kinds))
        else:
            target = "disk" if kind == "disk" else rng.choice((*KILLED, *KILLED, "temporary"))
            strikes.append(Strike(target, begin, round(rng.uniform(0, 0.1), 3)))
    return Run(tuple(sorted(strikes, key=lambda strike: strike.at)), tuple(storms))


def _describe(run: Run) -> str:
    parts = [f"{strike.target} at {strike.at:.0%}" for strike in run.strikes]
    for storm in run.storms:
        until = f"{storm.end:.0%}" if storm.end < 2 else "the end"
        parts.append(f"{'+'.join(storm.kinds)} for {storm.rate:.0%} from {storm.begin:.0%} to {until}")
    return ", ".join(parts)
