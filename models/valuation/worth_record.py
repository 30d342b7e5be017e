"""From what the panes of a window were worth to the record that says what each asset was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from models.valuation.appraisal import OVERALL, Rules
from models.valuation.arms import ArmSums
from models.valuation.fading import HALF_LIFE_S, Faded, fade
from models.valuation.incremental import Incremental, incremental, split
from models.valuation.intervals import BatchLadder, Interval, ReplicateSums, batch_means
from models.valuation.money import Basis, bases, modelled_fraction, name_of
from models.valuation.record import Status, instant, lineage_of, window_of
from models.valuation.truncation import truncation_error_max
from models.valuation.windows import WorthWindow
from models.valuation.worth import Credit, Worth
from schemas.valuation import (
    AdjustedMargin,
    AssetValue,
    Checks,
    Fading,
    Game,
    IncrementalMargin,
    IncrementalSplit,
    MoneyMethod,
    ValueMoney,
    ValueRegister,
)


def value_register(
    dimension: str,
    window: WorthWindow,
    watermark_ms: int,
    status: Status,
    source_topic: str,
    rules: Rules | None = None,
    arms: Mapping[str, ArmSums] | None = None,
) -> ValueRegister:
    """One record of ``valuation.register``. ``rules``: those that the tests were valued by. ``arms``: those of experiments by
    book, for the total, whose record has their margin. The rest as in ``rolling_record``.
    """
    rules, whole, faded = rules or Rules(), window.whole, fade(window)
    tests = max(1, whole.tests)
    caused = incremental(arms or {}, watermark_ms)
    players = {asset: credit.player for asset, credit in whole.credits.items()}
    parts = [part for found in caused if (part := split(found, players, whole.lift)) is not None]
    return ValueRegister(
        dimension=dimension,
        window=window_of(window.kind, window.start_ms, window.end_ms),
        status=status,
        watermark=instant(watermark_ms),
        game=Game(
            name="embedding_neighbours" if rules.neighbours == "embeddings" else "session_neighbours",
            k=rules.k,
            head=rules.head,
            tests=whole.tests,
            utility=float(whole.utility) / tests,
            baseline=float(whole.baseline) / tests,
            lift=float(whole.lift) / tests,
            truncation_error_max=truncation_error_max(rules.head, max(0, whole.most_rows - rules.head), rules.k),
        ),
        assets={asset: _value(asset, credit, window.panes, whole, faded) for asset, credit in sorted(whole.credits.items())},
        fading=None if faded is None else Fading(half_life_s=HALF_LIFE_S, tests=faded.tests, lift=faded.lift),
        checks=Checks(efficiency_residual=float(whole.residual())),
        lineage=lineage_of(window.offsets, source_topic),
        incremental=tuple(_incremental(found) for found in caused if dimension == OVERALL) or None,
        incremental_split=tuple(IncrementalSplit(**part._asdict()) for part in parts) or None,
    )


def _incremental(found: Incremental) -> IncrementalMargin:
    adjusted = None
    if found.adjusted is not None and found.variance_reduction is not None:
        adjusted = AdjustedMargin(**found.adjusted._asdict(), variance_reduction=found.variance_reduction)
    return IncrementalMargin(
        experiment=found.experiment,
        currency=found.currency,
        basis=found.basis,
        modelled_fraction=found.modelled_fraction,
        treated=found.treated,
        held_out=found.held_out,
        **found.plain._asdict(),
        adjusted=adjusted,
    )


def _value(asset: str, credit: Credit, panes: Sequence[Worth], whole: Worth, faded: Faded | None) -> AssetValue:
    tests = max(1, whole.tests)
    points, rows, lift = float(credit.points) / tests, float(credit.rows) / tests, float(whole.lift)
    interval = _interval(asset, credit, panes, whole)
    return AssetValue(
        points=points,
        player=float(credit.player) / tests,
        leave_one_out=float(credit.leave_one_out) / tests,
        share=float(credit.points) / lift if lift > 0 else None,
        per_1k_rows=1_000 * points / rows if rows else None,
        faded=None if faded is None else faded.points(asset),
        low=interval.low,
        high=interval.high,
        insufficient=interval.insufficient,
        method=None if interval.low is None else "batch_means",
        tests=credit.tests,
        rows=rows,
        owned=credit.owned / tests,
        money=tuple(_money(asset, credit, currency, basis, panes, whole) for currency, basis in bases(credit.money)),
    )


def _money(asset: str, credit: Credit, currency: str, basis: Basis, panes: Sequence[Worth], whole: Worth) -> ValueMoney:
    """With its interval: by replicates over shoppers where they are kept, else by the panes of the window."""
    name = name_of(currency, basis)
    if basis == "clicks":  # an interval would say how sure it is of what somebody said
        return ValueMoney(currency=currency, basis=basis, attributable=float(credit.money.get(name, 0)), modelled_fraction=1.0)
    method: MoneyMethod = "poisson_bootstrap" if name in credit.replicates else "batch_means"
    bounds = _drawn(credit.replicates[name]) if name in credit.replicates else _by_panes(asset, name, panes, whole)
    return ValueMoney(
        currency=currency,
        basis=basis,
        attributable=float(credit.money.get(name, 0)),
        modelled_fraction=modelled_fraction(currency, basis, credit.money),
        low=None if bounds is None else bounds[0],
        high=None if bounds is None else bounds[1],
        method=None if bounds is None else method,
    )


def _drawn(sums: ReplicateSums) -> tuple[float, float] | None:
    found = sums.interval()
    if found.insufficient or found.low is None or found.high is None:
        return None
    return float(found.low), float(found.high)


def _by_panes(asset: str, name: str, panes: Sequence[Worth], whole: Worth) -> tuple[float, float] | None:
    credits = [(pane.credits.get(asset), pane.tests) for pane in panes]
    sums = [float(held.money.get(name, 0)) if held is not None else 0.0 for held, _ in credits]
    found = batch_means(sums, [tests for _, tests in credits])
    if found.insufficient or found.low is None or found.high is None:
        return None
    return found.low * whole.tests, found.high * whole.tests


def _interval(asset: str, credit: Credit, panes: Sequence[Worth], whole: Worth) -> Interval:
    """Of the points per test: by the panes of the window, and of the total by the ladder, which its panes left behind."""
    if credit.ladder is None:
        held = [(float(pane.credits[asset].points) if asset in pane.credits else 0.0, pane.tests) for pane in panes]
        return batch_means([points for points, _ in held], [tests for _, tests in held])
    ladder = BatchLadder.from_record(credit.ladder)
    if whole.ladder is not None:
        ladder.merge(BatchLadder.from_record(whole.ladder))
    return ladder.interval()
