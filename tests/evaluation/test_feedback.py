"""What value feedback does to lists: a source that does harm is found and left out, and where none does nothing changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.simulation.sources import RELAY, SOUND, SourceOptions, touches
from streams.evaluation.feedback import SPARED, WITH, WITHOUT, Books, Comparison, compare_feedback
from streams.evaluation.shop import InProcessShop
from streams.settings import Settings
from tests.benchmarks.feedback import compared, events

#: Three hours of a small catalogue, looked at by the hour: what harm does shows once the first hour of all is out of the window.
OPTIONS = SourceOptions(visits=1_200, days=0.125, shoppers=1_500, themes=4, items_of_a_theme=25, relay_length=4.0)
HOUR = {"window": "1h", "every_ms": 300_000}


@pytest.fixture(scope="module")
def broken() -> Comparison:
    return compared(1, OPTIONS, **HOUR)


def test_the_broken_relay_counts_nothing_in_the_end_and_no_other_source_less(broken: Comparison) -> None:
    assert broken.weights[0] == (0, {"channel": {}, "event_type": {}})
    assert broken.weights[-1][1] == {"channel": {RELAY: 0.0}, "event_type": {}}
    assert {asset for _, below in broken.weights for asset in below["channel"]} == {RELAY}
    (channels,) = [register for register in broken.registers if register.dimension == "channel"]
    assert channels.assets[RELAY].high < 0
    assert all(channels.assets[channel].low > 0 for channel in SOUND)
    assert abs(channels.checks.efficiency_residual) < 1e-9


def test_lists_are_the_same_until_a_weight_changes_and_differ_after(broken: Comparison) -> None:
    first = next(events for events, below in broken.weights if below["channel"])
    ranks = [(int(event[1:]), rank, broken.ranks[WITH][event]) for event, rank in broken.ranks[WITHOUT].items()]
    assert all(one == other for number, one, other in ranks if number < first)
    assert any(one != other for number, one, other in ranks if number >= first)


def test_gains_are_over_the_same_events_in_every_arm(broken: Comparison) -> None:
    rows = {(row.events, row.arm): row for row in broken.results((RELAY,))}
    groups = ("of sound sources", "of sound sources, last third")
    assert set(rows) == {("all", WITHOUT), ("all", WITH), *((group, arm) for group in groups for arm in (WITHOUT, WITH, SPARED))}
    for (group, arm), row in rows.items():
        base = rows[group, WITHOUT]
        assert row.tests == base.tests
        assert row.hit_rate_low <= row.hit_rate_at_20 <= row.hit_rate_high
        if arm == WITHOUT:
            assert row.hit_rate_gain is row.mrr_gain is None
        else:
            assert row.hit_rate_gain == pytest.approx(row.hit_rate_at_20 - base.hit_rate_at_20, abs=2e-4)
            assert row.mrr_gain == pytest.approx(row.mrr_at_20 - base.mrr_at_20, abs=2e-4)
    sound = rows["of sound sources, last third", WITH]
    assert sound.mrr_gain_low > 0


def test_where_no_source_does_harm_not_a_rank_changes() -> None:
    sound = compared(1, replace(OPTIONS, broken=False), **HOUR)
    assert sound.weights == [(0, {"channel": {}, "event_type": {}})]
    assert sound.registers
    assert sound.ranks[WITH] == sound.ranks[WITHOUT]


def test_the_books_are_those_of_the_value_role() -> None:
    """Registers of the evaluation are made of outcomes by the worker's rules: the lift adds up, by channel and by type."""
    settings = Settings(index="flat", threads=1, value_feedback=True, feedback_window="1h")
    options = replace(OPTIONS, visits=300)
    shop = InProcessShop(settings, [], None)
    books = Books(settings)
    assert books.registers() == []
    shop.learn(events(touches(1, options)), 50, books.take)
    by_channel, by_type = books.registers()
    assert (by_channel.dimension, by_type.dimension) == ("channel", "event_type")
    assert set(by_channel.assets) == {RELAY, *SOUND}
    assert by_channel.game == by_type.game
    assert by_channel.game.tests > 500
    assert sum(value.points for value in by_channel.assets.values()) == pytest.approx(by_channel.game.lift)


def test_a_shop_that_keeps_no_sources_cannot_be_weighed() -> None:
    shops = {arm: InProcessShop(Settings(index="flat", threads=1), [], None) for arm in (WITHOUT, WITH)}
    with pytest.raises(ValueError, match="do not keep where their items came from"):
        compare_feedback(shops, [], ("click",), batch=1, every_ms=1)
