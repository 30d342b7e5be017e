"""What a run under faults came to, in one line."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts of one run. ``wrong``: outputs whose content is not the oracle's. ``failover_ms``: from each kill to the moment when every
    partition had produced something that was fed after it. ``unexplained_restarts``: workers that ended although nothing was done that
    may end one.
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

    @property
    def clean(self) -> bool:
        """Nothing lost, nothing twice, nothing out of order, nothing altered, and no worker that ended for no reason."""
        return not any((self.lost, self.duplicated, self.reordered, self.wrong, self.state_differences, self.unexplained_restarts))

    def __str__(self) -> str:
        failover = ",".join(map(str, self.failover_ms)) or "-"
        notes = "".join(f" {name}={value}" for name, value in self.notes.items())
        return (
            f"{self.name}: inputs={self.inputs} lost={self.lost} duplicated={self.duplicated} reordered={self.reordered} "
            f"dead-lettered={self.dead_lettered} wrong={self.wrong} state-differences={self.state_differences} "
            f"max-lag={self.max_lag} failover-ms={failover}{notes}"
        )
