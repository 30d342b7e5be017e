"""Planted worth is found: channels in the order of their noise, the noisiest below zero, and copies that buy nothing."""

from __future__ import annotations

import numpy as np
import pytest

from models.simulation.planted import CORRUPTED, planted_sessions
from tests.benchmarks.planted import keep_books, moved_by_copies


def test_a_planted_share_of_outcomes_is_noise() -> None:
    sessions = list(planted_sessions(1, 20_000))
    assert sessions[:50] == list(planted_sessions(1, 50))
    for channel, share in enumerate(CORRUPTED):
        own = [one for one in sessions if one.channel == channel]
        off = [one for one in own if one.label.split("-")[1] != one.context[0].split("-")[1]]
        # Noise hits the right outcome one time in twenty.
        assert len(off) / len(own) == pytest.approx(share * 19 / 20, abs=0.02)
        assert all(len(set(one.context)) == 3 for one in own)


def test_the_noisiest_channel_is_last_within_a_few_hundred_outcomes() -> None:
    books = keep_books(0, 300)
    assert int(books.points.sum(axis=0).argmin()) == len(CORRUPTED) - 1
    assert books.residual < 1e-9


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_channels_rank_as_planted_and_the_noisiest_is_below_zero() -> None:
    books = [keep_books(seed) for seed in range(20)]
    assert min(one.tau() for one in books) >= 0.9
    assert sum((one.intervals()[-1].high or 0.0) < 0 for one in books) >= 19
    assert max(one.residual for one in books) < 1e-9


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_copies_of_a_channel_buy_it_little_as_a_player_and_nothing_if_it_is_noise() -> None:
    player, points = moved_by_copies(1, 1_500)
    # Of middling data three points at most; better data gains as it outvotes worse, and worse data loses.
    assert float(np.abs(player[2:4]).max()) <= 3.0
    assert float(player.max()) <= 6.0
    assert float(player[-2:].max()) < 0.0
    # The sum of rows is what copies inflate: it is for triage, not for settling.
    assert float(points.min()) > 15.0
    assert float((np.abs(player) / points).max()) < 0.6
