"""A fault schedule: what is done to workers and broker, in which order, and what is waited for in between.

A schedule holds no clock: each step follows the one before it as soon as that is done, and the only step that lets time pass
(``await`` with ``seconds``) says how long a fault lasts, not how long its effect takes. Equal seeds give equal schedules.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from models.profiles.history import SESSION_GAP_MS
from streams.runtime.seams import SEAMS, armed
from tests.faults.habits import Habits

Action = Literal["feed", "start", "kill", "stop", "freeze", "thaw", "wipe", "broker", "swap", "await"]
Condition = Literal["", "complete", "progress", "ready", "dead", "taken", "owns", "answered", "seconds"]
Job = Literal["state", "storefront"]
#: Files that workers of a storefront take up while they run.
Swappable = Literal["ranker", "sequence", "rules", "weights"]
Kind = Literal[
    "kill", "wipe", "seam", "term", "zombie", "takeover", "takeover-wipe", "leave", "swap",
    "broker-restart", "broker-kill", "broker-freeze",
]  # fmt: skip

_OF_A_WORKER = ("start", "kill", "stop", "freeze", "thaw", "wipe")
#: What makes brokers stop answering.
BROKER_ENDS = ("stop", "kill", "pause")
_OF_A_BROKER = (*BROKER_ENDS, "start", "resume")

#: Faults that leave the broker alone, so that tests may share one.
WORKER_FAULTS: tuple[Kind, ...] = ("kill", "wipe", "seam", "term", "zombie")
#: Of workers that stay away until others have taken their partitions over, which is what standbys are for.
TAKEOVERS: tuple[Kind, ...] = ("takeover", "takeover-wipe", "leave")
BROKER_FAULTS: tuple[Kind, ...] = ("broker-restart", "broker-kill", "broker-freeze")
#: The workers' session timeout, and how long a zombie sleeps: its partitions must have gone to others when it wakes up.
SESSION_TIMEOUT_S = 6
ZOMBIE_S = SESSION_TIMEOUT_S + 3
#: How long one that left its group stays away.
_LEAVE_S = 3
#: Outputs of the others after which a worker that was to die at a seam is held to own no partition.
_IDLE = 30_000


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. ``worker``: its number. ``broker``: ``detail`` is a method of ``RealKafka``, ``count`` a node (-1:
    all); ``start`` takes none, it brings back whatever is down. ``swap``: the other version of the file ``detail`` is put in place.

    ``start``: ``detail`` is a seam to die at ("" = none). ``await``: ``detail`` is a condition; ``progress`` means ``count`` more
    outputs, ``ready`` that the worker has opened what the group gave it, ``taken`` that others have opened what this absent one had
    (at once, if it had nothing), ``dead`` that the seam has ended it (or that ``count`` more
    outputs came without it, because it owns nothing; then it is killed), ``answered`` that every partition has answered an event that was
    sent after the newest fault (the broker may still be away in part), ``seconds`` that ``count`` seconds are over. Meanwhile
    ``load`` events are fed again and again, as long as the lag is below twenty times that.
    """

    do: Action
    worker: int = -1
    count: int = -1
    detail: str = ""
    load: int = 0


@dataclass(frozen=True, slots=True)
class Shop:
    """Whose events are fed under job ``storefront``: ``users`` shoppers drawn from ``feed_seed``, whose producers have ``habits``, to
    workers of ``roles``; a visit ends after ``session_gap_s``. ``swaps``: files that the workers are given, to be swapped.
    """

    feed_seed: int = 7
    roles: str = "recommend,value"
    users: int = 150
    session_gap_s: float = SESSION_GAP_MS / 1000
    habits: Habits = field(default_factory=Habits)
    swaps: tuple[Swappable, ...] = ()

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Shop:
        """Read from JSON, which has lists for tuples. Raises ``TypeError`` for fields that there are not."""
        habits = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.get("habits", {}).items()}
        return cls(**{**fields, "habits": Habits(**habits), "swaps": tuple(fields.get("swaps", ()))})


@dataclass(frozen=True, slots=True)
class Schedule:
    """``steps`` over ``workers`` processes and ``brokers``; ``seed`` also seeds the feed. ``own_broker``: it must not be shared.

    ``job``: the state-only job of the benchmarks, or a storefront on the real roles; ``shop`` is whose, once it was run.
    """

    seed: int
    workers: int
    steps: tuple[Step, ...]
    brokers: int = 1
    hot_share: float = 0.0
    job: Job = "state"
    shop: Shop | None = None
    standby: bool = False
    name: str = field(default="schedule")

    @property
    def own_broker(self) -> bool:
        return self.brokers > 1 or any(step.do == "broker" for step in self.steps)

    @property
    def faults(self) -> Counter[str]:
        """What is done to workers and broker, by kind."""
        found: Counter[str] = Counter()
        for step in self.steps:
            if step.do in ("kill", "wipe", "stop", "freeze", "swap"):
                found[step.do] += 1
            elif step.do == "start" and step.detail:
                found["seam"] += 1
            elif step.do == "broker" and step.detail in BROKER_ENDS:
                found[f"broker-{step.detail}"] += 1
        return found

    def to_json(self) -> str:
        """Readable JSON: one step a line, without what is at its default."""
        default = asdict(Step("await"))
        steps = [json.dumps({k: v for k, v in asdict(step).items() if k == "do" or v != default[k]}) for step in self.steps]
        head = {name: value for name, value in asdict(self).items() if name != "steps"}
        return json.dumps(head)[:-1] + ', "steps": [\n  ' + ",\n  ".join(steps) + "\n]}\n"

    @classmethod
    def from_json(cls, text: str) -> Schedule:
        """Read what ``to_json`` wrote, or somebody edited. Raises ``ValueError`` for what is no schedule, naming the step."""
        document = json.loads(text)
        if not isinstance(document, dict) or not isinstance(document.get("steps"), list):
            raise ValueError("a schedule is an object with a list of steps")
        steps = []
        for number, fields in enumerate(document["steps"]):
            try:
                steps.append(Step(**fields))
            except TypeError as error:
                raise ValueError(f"step {number}, {fields}: {error}") from error
        try:
            shop = Shop.of(document["shop"]) if document.get("shop") else None
            schedule = cls(**{**document, "steps": tuple(steps), "shop": shop})
        except TypeError as error:
            raise ValueError(f"no schedule: {error}") from error
        schedule.check()
        return schedule

    def check(self) -> None:
        """Raise ``ValueError`` for a step that could not be carried out: it would be passed over, and the run be clean."""
        frozen: set[int] = set()
        for number, step in enumerate(self.steps):
            what = f"step {number}, {step}"
            if not all(isinstance(value, int) for value in (step.worker, step.count, step.load)) or step.load < 0:
                raise ValueError(f"{what}: worker, count and load are whole numbers, load at least 0")
            if step.do not in get_args(Action):
                raise ValueError(f"{what}: do is one of {', '.join(get_args(Action))}")
            needs_worker = step.do in _OF_A_WORKER or (step.do == "await" and step.detail in ("ready", "dead", "taken", "owns"))
            if needs_worker and not 0 <= step.worker < self.workers:
                raise ValueError(f"{what}: worker is one of 0..{self.workers - 1}")
            if step.do == "await" and step.detail not in get_args(Condition)[1:]:
                raise ValueError(f"{what}: detail is one of {', '.join(get_args(Condition)[1:])}")
            if step.do == "broker" and step.detail not in _OF_A_BROKER:
                raise ValueError(f"{what}: detail is one of {', '.join(_OF_A_BROKER)}")
            if step.do == "swap" and (self.job != "storefront" or step.detail not in get_args(Swappable)):
                raise ValueError(f"{what}: detail is one of {', '.join(get_args(Swappable))}, of a storefront")
            if step.do == "swap" and self.shop is not None and step.detail not in self.shop.swaps:
                raise ValueError(f"{what}: this shop's workers are given {', '.join(self.shop.swaps) or 'nothing'} to be swapped")
            if step.do == "broker" and not -1 <= step.count < max(1, self.brokers):
                raise ValueError(f"{what}: count is the broker's number, below {self.brokers}, or -1: all of them")
            if step.do == "freeze":
                frozen.add(step.worker)
            elif step.do == "thaw" and step.worker not in frozen:
                raise ValueError(f"{what}: this worker was never frozen")
            if step.do == "start" and step.detail:
                try:
                    armed(step.detail)
                except ValueError as error:
                    raise ValueError(f"{what}: detail is a seam: one of {', '.join(SEAMS)}, a colon, the pass at which to die") from error
            if (step.do == "feed" or (step.do == "await" and step.detail in ("progress", "seconds"))) and step.count < 0:
                raise ValueError(f"{what}: count says how many")
        if self.job not in get_args(Job):
            raise ValueError(f"job is one of {', '.join(get_args(Job))}")

    @classmethod
    def load(cls, path: Path) -> Schedule:
        return cls.from_json(path.read_text())


def feed(count: int) -> Step:
    return Step("feed", count=count)


def start(worker: int, seam: str = "") -> Step:
    return Step("start", worker, detail=seam)


def kill(worker: int) -> Step:
    return Step("kill", worker)


def stop(worker: int) -> Step:
    return Step("stop", worker)


def swap(what: Swappable) -> Step:
    return Step("swap", detail=what)


def broker(method: str, node: int = -1) -> Step:
    return Step("broker", count=node, detail=method)


def until(condition: Condition, count: int = -1, *, worker: int = -1, load: int = 0) -> Step:
    return Step("await", worker, count, condition, load)


def generated(
    seed: int,
    *,
    workers: int = 2,
    faults: int = 6,
    kinds: Sequence[Kind] = WORKER_FAULTS,
    load: int = 250,
    job: Job = "state",
    standby: bool = False,
    swaps: Sequence[Swappable] = (),
) -> Schedule:
    """``faults`` faults of ``kinds`` in random order, every one while work is under way; at the end all that was fed is awaited. A ``swap``
    is of one of ``swaps``, of which there must be some then.
    """
    chance = random.Random(seed)
    steps: list[Step] = [start(number) for number in range(workers)]
    steps += [until("ready", worker=number) for number in range(workers)]
    steps += [feed(500), until("complete")]
    for _ in range(faults):
        # Not at the same place each time: somewhere in the work that is under way.
        steps.append(until("progress", chance.randrange(200, 1_500), load=load))
        victim = chance.randrange(workers)
        steps += _fault(chance, chance.choice(list(kinds)), victim, load, swaps)
        if chance.random() < 0.5:
            # Else the next fault may find it still at its start.
            steps.append(until("ready", worker=victim, load=load))
    steps += [until("progress", 500, load=load), feed(1_000), until("complete")]
    return Schedule(seed, workers, tuple(steps), job=job, standby=standby, name=f"seed {seed}")


def _fault(chance: random.Random, kind: Kind, worker: int, load: int, swaps: Sequence[Swappable]) -> list[Step]:
    match kind:
        case "kill":
            return [kill(worker), start(worker)]
        case "wipe":
            return [kill(worker), Step("wipe", worker), start(worker)]
        case "seam":
            seam = f"{chance.choice(SEAMS)}:{chance.randrange(3, 30)}"
            return [stop(worker), start(worker, seam), until("dead", _IDLE, worker=worker, load=load), start(worker)]
        case "term":
            return [stop(worker), start(worker)]
        case "zombie":
            return [Step("freeze", worker), until("seconds", ZOMBIE_S, load=load), Step("thaw", worker)]
        case "takeover":
            return [kill(worker), until("seconds", ZOMBIE_S, load=load), until("taken", worker=worker, load=load), start(worker)]
        case "takeover-wipe":
            away = [until("seconds", ZOMBIE_S, load=load), until("taken", worker=worker, load=load)]
            return [kill(worker), Step("wipe", worker), *away, start(worker)]
        case "leave":
            return [stop(worker), until("seconds", _LEAVE_S, load=load), until("taken", worker=worker, load=load), start(worker)]
        case "swap":
            # Once for those that live, and once for one that starts, which may find the files in the midst of it.
            first, second = chance.choice(swaps), chance.choice(swaps)
            return [swap(first), until("progress", 100, load=load), kill(worker), start(worker), swap(second)]
        case "broker-restart":
            return [broker("stop"), broker("start")]
        case "broker-kill":
            return [broker("kill"), until("seconds", chance.randrange(1, 8)), broker("start")]
        case "broker-freeze":
            return [broker("pause"), until("seconds", chance.randrange(2, 12)), broker("resume")]
