"""What a pane of a dimension was worth: whether it adds up, and what of it may be added to the sums."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from models.valuation.messages import PartialMessage, check_partial
from models.valuation.worth import Credit, Worth


def pane(*, points: str = "2.5", player: str = "2.5", rows: str = "4") -> Worth:
    one = Credit(tests=3, owned=2, rows=Decimal(rows), points=Decimal(points), player=Decimal(player))
    other = Credit(tests=3, owned=1, rows=Decimal(1), points=Decimal("-0.5"), player=Decimal("-0.5"))
    return Worth(3, Decimal(3), Decimal(1), 0, 2, credits={"web": one, "app": other})


@pytest.mark.parametrize(
    ("wrong", "missed"), [({}, "0"), ({"points": "2.6"}, "0.1"), ({"player": "2.3"}, "-0.2"), ({"points": "2.6", "player": "2.3"}, "-0.2")]
)
def test_points_or_players_that_do_not_add_up_to_the_lift_show_in_the_residual(wrong: dict[str, str], missed: str) -> None:
    assert pane(**wrong).residual() == Decimal(missed)


def test_a_part_with_fewer_than_no_rows_is_not_added_to_the_sums() -> None:
    """It could be told in no record, so every later publication would fail."""

    def partial(worth: Worth) -> PartialMessage:
        return PartialMessage("channel", 0, datetime(2025, 1, 1, tzinfo=UTC), {}, {"total": worth})

    check_partial(partial(pane()))
    with pytest.raises(ValueError, match="out of range"):
        check_partial(partial(pane(rows="-4")))
