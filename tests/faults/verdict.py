"""What a run under faults came to, in one line."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts of one run. ``wrong``: outputs whose content is not the oracle's. ``failover_ms``: from each kill to the moment when every
    partition had produced something that was fed after it; ``open_failovers_ms``: since those after which one never did;
    ``late_failovers_ms``: those of ``failover_ms`` that took longer than such a fault may. ``unexplained_restarts``: workers that ended
    although nothing was done that may end one.
    """

    name: str
    inputs: int
    lost: int
    duplicated: int
    reordered: int
    dead_lettered: int
    wrong: int
    state_differences: int
    max_lag: int
    failover_ms: tuple[int, ...] = ()
    notes: dict[str, object] = field(default_factory=dict)
    unexplained_restarts: int = 0
    open_failovers_ms: tuple[int, ...] = ()
    late_failovers_ms: tuple[int, ...] = ()

    @property
    def clean(self) -> bool:
        """Nothing lost, nothing twice, nothing out of order, nothing altered, no worker that ended for no reason, no failover without an
        end or beyond its bound.
        """
        counts = (self.lost, self.duplicated, self.reordered, self.wrong, self.state_differences, self.unexplained_restarts)
        return not any(counts) and not self.open_failovers_ms and not self.late_failovers_ms

    def __str__(self) -> str:
        failover = ",".join(map(str, self.failover_ms)) or "-"
        if self.open_failovers_ms:
            failover += f" still-open-ms={','.join(map(str, self.open_failovers_ms))}"
        if self.late_failovers_ms:
            failover += f" too-slow-ms={','.join(map(str, self.late_failovers_ms))}"
        if self.unexplained_restarts:
            failover += f" unexplained-restarts={self.unexplained_restarts}"
        notes = "".join(f" {name}={value}" for name, value in self.notes.items())
        return (
            f"{self.name}: inputs={self.inputs} lost={self.lost} duplicated={self.duplicated} reordered={self.reordered} "
            f"dead-lettered={self.dead_lettered} wrong={self.wrong} state-differences={self.state_differences} "
            f"max-lag={self.max_lag} failover-ms={failover}{notes}"
        )
