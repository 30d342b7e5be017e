"""The recommend role: events become profiles, lists with reasons, outcomes and live sessions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.attribution import ShownLists, Windows
from models.attribution.memory import seconds
from models.catalog.catalogue import Catalogue
from models.factors.model import FactorModel
from models.profiles import Profile, apply, decode_profile, encode_profile, merge, milliseconds
from models.profiles.columns import Trust
from models.profiles.history import SESSION_LIMIT
from models.profiles.profile import FLAG_ITEM_ONLY
from models.ranking import ListWriter, RankedLists, Ranker
from models.ranking.rehearsal import rehearse
from models.ranking.trained import TrainedRanker
from models.ranking.weights import Weights
from models.retrieval import LiveSessions
from models.rules import BusinessRules
from models.search.source import QuerySource
from models.valuation.feedback import SourceWeights
from models.watching import WatchedFolder
from schemas.events import Event, Login
from schemas.topics import CATALOG, EMBEDDINGS, ERASURES, EVENTS, MERGES, REGISTER
from streams.agents import emission
from streams.agents.arms import HOLDOUT, TREATMENT, Arms
from streams.agents.clocks import happened_ms
from streams.agents.decode import Decoded, decode_batch
from streams.agents.deltas import sessions_broadcast
from streams.agents.departures import Departures
from streams.agents.expiry import Expiry
from streams.agents.feedback import Feedback
from streams.agents.ranking import make_factor_source, make_ranker, make_source, open_models, open_queries, parameters_of, read_weights
from streams.agents.resolutions import Impressing, Resolutions, finish, follow, set_timer
from streams.agents.rules import RulesFile
from streams.agents.shoppers import (
    CLOCK_KEY,
    CLOCK_STEP_MS,
    EVENT_CLOCK_KEY,
    IMPRESSING_KEY,
    EmittedList,
    Handed,
    SessionGrowth,
    Shopper,
    Visit,
    decode_handed,
    decode_list,
    decode_time,
    encode_handed,
    encode_list,
    encode_time,
    shopper_of,
)
from streams.runtime import metrics
from streams.runtime.halving import failing
from streams.runtime.processor import Batch, Record, State, Step
from streams.runtime.task import Broadcast, Task
from streams.settings import Settings

if TYPE_CHECKING:  # torch comes with them, which most workers do without
    from models.sequence.source import NamedModel

logger = logging.getLogger(__name__)

#: Length of the popularity baseline's list.
BASELINE_LENGTH: Final = 20
_NO_PRODUCT: Final = "the catalogue holds no product that may be recommended"
_NOTHING_KNOWN: Final = "no products are known yet"
_RULED_OUT: Final = "the business rules exclude every product that may be recommended"
_ALL_KNOWN: Final = "the shopper knows everything that could be recommended, and repeats are switched off (--repeats)"


class Known(NamedTuple):
    """What the state says of the partition: its clocks (broker's and events', ms), and ``Impressing``'s bytes."""

    clock_ms: int
    event_ms: int
    impressing: bytes | None


class Times(NamedTuple):
    """Of a micro-batch, in ms: the broker's clock and that of the events after it, and the events' clock as it was known before it."""

    seen_ms: int
    event_ms: int
    watermark_ms: int


class RecommendProcessor:
    """Pure function of (state, batch), given what the broadcast topics have said so far (``catalogue``, ``sessions``) and the business
    ``rules`` in force.

    State: ``p|`` + shopper -> profile, ``l|`` + shopper -> the list last emitted, ``e|`` + hash of a user -> when they were erased
    (``streams.agents.shoppers``). The last stays: what the broker took before an erasure is never learned after it, however late
    it is read. ``h|`` + hash of a session that logged in -> its event ids and its word on consent, ``c|`` -> the clock by which anonymous
    shoppers expire. ``w|`` -> the clock of the events, ``t|`` + a time by it + shopper: when to look at what they were shown. ``i|`` -> the
    channels that send impressions.
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        sessions: LiveSessions,
        rules: BusinessRules | None = None,
        trained: TrainedRanker | None = None,
        sequence: NamedModel | None = None,
        queries: QuerySource | None = None,
        factors: FactorModel | None = None,
    ) -> None:
        self._settings = settings
        self._feedback: SourceWeights | None = None
        self._queries = queries
        self._catalogue = catalogue
        self._sessions = sessions
        self._rules = rules
        self._gap_ms = int(settings.session_gap_s * 1000)
        self._windows = Windows(int(settings.click_window_s), int(settings.view_window_s))
        self._writer = ListWriter(catalogue.table)
        self._weights = read_weights(settings)
        self._arms = Arms(settings)
        self.trained = trained
        self.sequence = sequence
        self.factors = factors
        self._ranker = self._make_ranker()
        self._encoder_changes = catalogue.encoder_changes
        self._resolutions = Resolutions(self._windows, self._category_of)
        self._expiry = Expiry(settings.anonymous_ttl_s, self._resolutions.end)
        self._departures = Departures(self._gap_ms)

    def products_changed(self, rows: Sequence[int]) -> None:
        """Products were set or deleted (rows of the item table)."""
        self._ranker.note_products(rows)

    def vectors_changed(self, rows: Sequence[int]) -> None:
        """Vectors were set or dropped."""
        self._ranker.note_vectors(rows)

    def rules_changed(self, rules: BusinessRules) -> None:
        """Other business rules hold from the next batch on."""
        self._rules = rules
        self._ranker.enforce(rules)

    def weights_changed(self, weights: Weights) -> None:
        """Other weights of the sources count from the next batch on."""
        self._weights = weights
        self._ranker.parameters = weights.parameters

    def ranker_changed(self, trained: TrainedRanker) -> None:
        """Another trained ranker orders lists from the next batch on."""
        self.trained = self._ranker.trained = trained

    def sequence_changed(self, named: NamedModel) -> None:
        """Another sequence model is a source from the next batch on."""
        self.sequence = named
        self._ranker.sequence = make_source(self._settings, self._catalogue, named)

    def feedback_changed(self, weights: SourceWeights) -> None:
        """Data assets count what ``weights`` says from the next batch on: what past sessions say, and what is known of each shopper."""
        self._feedback = weights
        self._sessions.weigh(weights.of)
        self._ranker.trust = self._trust()

    def factors_changed(self, model: FactorModel) -> None:
        """Other factors are a source from the next batch on."""
        self.factors = model
        self._ranker.factors = make_factor_source(self._settings, self._catalogue, model)

    def process(self, state: State, batch: Batch) -> Step:
        """See ``Processor.process``."""
        self._renew_ranker()
        settings = self._settings
        # Step 1. Validate; what is invalid becomes a dead letter.
        decoded = decode_batch(
            batch, self._catalogue.table, refuse_unknown=settings.unknown_sku == "dead_letter", max_bytes=settings.max_event_bytes
        )
        step = Step(outputs=decoded.dead_letters)
        popular = self._popular(batch.now_ms)
        # Step 2. Forget. Topics have no order among them, so it is the broker's time that tells what lies before an erasure: that
        # is passed over in step 3, and only what came later begins anew.
        shoppers = [shopper_of(event) for _, event in decoded.events]
        open_visits, erased, known = self._meet(state, decoded, shoppers)
        self._erase(step, batch, decoded, open_visits, erased)
        # Step 3. Learn: events, then histories handed over by logins.
        visits, withdrawn = self._learn(step, decoded, shoppers, open_visits, erased)
        # Step 4. Rank all shoppers at once, and say so.
        if visits:
            seen_ms = max(known.clock_ms, *(record.timestamp for record, _ in decoded.events), 0)
            newest_ms = max(visit.profile.last_ms for visit in visits)
            times = Times(seen_ms, max(known.event_ms, min(newest_ms, seen_ms) if seen_ms else newest_ms), known.event_ms)
            impressing = Impressing(known.impressing, self._windows.click_s)
            ranked = [(arm, part, self._rank(arm, part, batch.now_ms)) for arm, part in self._arms.part(visits).items()]
            for arm, part, lists in ranked:
                self._emit(step, batch, arm, part, lists, popular, times, impressing)
            self._expose(step, batch, visits, [lists for _, _, lists in ranked])
            self._departures.heard(batch.partition, (visit.shopper for visit in visits if visit.login is None), seen_ms, batch.now_ms)
            if seen_ms >= known.clock_ms + CLOCK_STEP_MS:
                step.writes[CLOCK_KEY] = encode_time(seen_ms)
            if times.event_ms >= known.event_ms + CLOCK_STEP_MS:
                step.writes[EVENT_CLOCK_KEY] = encode_time(times.event_ms)
            if (channels := impressing.encode()) is not None:
                step.writes[IMPRESSING_KEY] = channels
            self._resolutions.heard(batch.partition, times.event_ms, batch.now_ms, step.writes)
        for names in withdrawn:
            step.outputs.extend(emission.forgotten(names, settings.partitions))
        return step

    def tick(self, state: State, partition: int, now_ms: int) -> Step | None:
        """Forget some of the anonymous shoppers who did not come back, make lists for the next visit of those who just left, and tell what
        became of lists shown to those who left before.
        """
        step = self._expiry.sweep(state, partition, now_ms)
        left = self._departures.due(state, partition, now_ms)
        if left:
            self._renew_ranker()
            step = self._prepare_return(step, state, partition, now_ms, left)
        return self._resolutions.sweep(step, state, partition, now_ms)

    def opened(self, state: State, partition: int) -> None:
        """Look for the abandoned, and those who left, from the beginning."""
        self._expiry.begin_anew(partition)
        self._departures.opened(partition)
        self._resolutions.forget(partition)

    def lost(self, partition: int) -> None:
        """Forget what is cached by partition."""
        self._expiry.begin_anew(partition)
        self._departures.lost(partition)
        self._resolutions.forget(partition)

    def _renew_ranker(self) -> None:
        if self._catalogue.encoder_changes != self._encoder_changes:  # what was found with the former vectors is void
            self._ranker, self._encoder_changes = self._make_ranker(), self._catalogue.encoder_changes

    def _make_ranker(self) -> Ranker:
        return make_ranker(
            self._settings, self._catalogue, self._sessions, parameters_of(self._weights),
            rules=self._rules, trained=self.trained, named=self.sequence, trust=self._trust(), queries=self._queries,
            factors=self.factors,
        )  # fmt: skip

    def _trust(self) -> Trust | None:
        """None where all counts alike: then it need not be looked where anything came from."""
        return self._feedback.of if self._feedback else None

    def _rank(self, arm: str | None, visits: Sequence[Visit], now_ms: int, *, next_visit: bool = False) -> RankedLists:
        """Lists for shoppers of one arm."""
        profiles = [visit.profile for visit in visits]
        if arm == HOLDOUT:
            return self._ranker.popular(profiles, now_ms)
        names = [visit.shopper.name for visit in visits]
        other = self._arms.treatment if arm == TREATMENT else None
        return self._ranker.rank(profiles, now_ms, names, next_visit=next_visit, parameters=None if other is None else other.parameters)

    def _popular(self, now_ms: int) -> dict[str, int]:
        rows: NDArray[np.int32] = self._ranker.baseline(now_ms).overall[:BASELINE_LENGTH]
        skus = self._catalogue.table.skus
        return {skus[row]: place for place, row in enumerate(rows.tolist(), start=1)}

    @staticmethod
    def _meet(state: State, decoded: Decoded, shoppers: Sequence[Shopper]) -> tuple[dict[Shopper, Visit], dict[Shopper, int], Known]:
        """What is known of everybody in the batch, when those who were erased before it were, and what is known of the partition."""
        named = [message.user_id for _, message, _, _ in decoded.merges] + [erasure.user_id for _, erasure in decoded.erasures]
        distinct = list(dict.fromkeys([*shoppers, *(Shopper(user, False) for user in named)]))
        users = [shopper for shopper in distinct if not shopper.anonymous]
        sessions = [shopper for shopper in distinct if shopper.anonymous]
        keys = [key for shopper in distinct for key in (shopper.profile_key, shopper.list_key)]
        erasures, handovers = [user.erased_key for user in users], [session.handed_key for session in sessions]
        stored = state.get_many([*keys, *erasures, *handovers, CLOCK_KEY, EVENT_CLOCK_KEY, IMPRESSING_KEY])
        *stored, clock, event_clock, impressing = stored
        known = Known(decode_time(clock) if clock else 0, decode_time(event_clock) if event_clock else 0, impressing)
        times = zip(users, stored[len(keys) : len(keys) + len(users)], strict=True)
        handed = dict(zip(sessions, stored[len(keys) + len(users) :], strict=True))
        open_visits: dict[Shopper, Visit] = {}
        for place, shopper in enumerate(distinct):
            data = stored[2 * place]
            profile = decode_handed(handed.get(shopper)).profile() if data is None else decode_profile(data)
            open_visits[shopper] = Visit(shopper, profile, decode_list(stored[2 * place + 1]), EVENTS.name)
        return open_visits, {user: decode_time(data) for user, data in times if data is not None}, known

    def _erase(self, step: Step, batch: Batch, decoded: Decoded, open_visits: dict[Shopper, Visit], erased: dict[Shopper, int]) -> None:
        for record, erasure in decoded.erasures:
            user = Shopper(erasure.user_id, False)
            held = open_visits[user]
            names = _names(user, held.profile)
            removed = {
                "profile": int(held.profile.events > 0),
                "recommendations": int(held.emitted.recommendation_id != ""),
                "sessions": sum(self._sessions.sessions_of(name) for name in names),
            }
            open_visits[user] = Visit(user, Profile(), EmittedList(), EVENTS.name)
            step.writes[user.profile_key] = None
            step.writes[user.list_key] = None
            set_timer(step, user, held.emitted.shown.wake_s, 0)
            # The lists of joined sessions were withdrawn by their logins.
            step.outputs.append(emission.withdrawal(user, batch.partition))
            step.outputs.extend(emission.forgotten(names, self._settings.partitions))
            if user not in erased or record.timestamp > erased[user]:  # else it is read again, and has its receipt
                erased[user] = record.timestamp
                step.writes[user.erased_key] = encode_time(record.timestamp)
                step.outputs.append(emission.receipt(erasure, batch.now_ms, removed))

    def _learn(
        self,
        step: Step,
        decoded: Decoded,
        shoppers: Sequence[Shopper],
        open_visits: dict[Shopper, Visit],
        erased: dict[Shopper, int],
    ) -> tuple[list[Visit], list[list[str]]]:
        """The visits, and the names of those whose consent a session withdrew that became theirs: to be forgotten when all is told that
        they did in this batch.
        """
        visits: list[Visit] = []
        withdrawn: list[list[str]] = []
        for (record, event), shopper in zip(decoded.events, shoppers, strict=True):
            if erased and shopper in erased and record.timestamp <= erased[shopper]:
                continue
            visit = open_visits[shopper]
            agreed = not visit.profile.flags & FLAG_ITEM_ONLY
            if not self._apply(visit, record, event):
                continue
            if visit.profile.flags & FLAG_ITEM_ONLY:
                visit.withheld.append(record.offset)
                if agreed:
                    step.outputs.extend(emission.forgotten(_names(shopper, visit.profile), self._settings.partitions))
                    visit.sessions.clear()
            if visit.records == 1:
                visits.append(visit)
            if isinstance(event, Login):
                visit.login = (record, event)
                open_visits[shopper] = Visit(shopper, Handed.of(visit.profile).profile(), EmittedList(), EVENTS.name)
        for record, message, session, memory in decoded.merges:
            user = Shopper(message.user_id, False)
            if user in erased and message.received_ms <= erased[user]:
                # The erasure could not know that this session was the user's.
                names = [Shopper(message.session_id, True).name]
                step.outputs.extend(emission.forgotten(names, self._settings.partitions))
                continue
            visit = open_visits[user]
            if visit.topic != MERGES.name:
                visit = open_visits[user] = Visit(user, visit.profile, visit.emitted, MERGES.name)
                visits.append(visit)
            agreed = not visit.profile.flags & session.flags & FLAG_ITEM_ONLY
            visit.profile = merge(visit.profile, session, message.session_id)
            if agreed and visit.profile.flags & FLAG_ITEM_ONLY:
                withdrawn.append(_names(user, visit.profile))
            visit.handed.append(memory)
            visit.rest_on(record)
        return visits, withdrawn

    def _apply(self, visit: Visit, record: Record, event: Event) -> bool:
        profile = visit.profile
        start, length = profile.session_start_ms, profile.session_length
        # By a clock that is ahead no session may begin that everything else is too old for.
        at_ms = happened_ms(record, milliseconds(event.occurred_at))
        if not apply(profile, event, self._gap_ms, at_ms):
            return False
        visit.rest_on(record)
        visit.events.append((record, event, at_ms))
        grown = profile.session_length
        if (grown != length or profile.session_start_ms != start) and 0 < grown <= SESSION_LIMIT:
            source = event.channel, event.country, event.segment
            if grown == 1 or not visit.sessions or visit.sessions[-1].source != source:
                visit.sessions.append(SessionGrowth(profile.session_start_ms, grown - 1, source=source))
            sku: str = event.sku  # type: ignore[union-attr, assignment]
            visit.sessions[-1].items.append((sku, at_ms, event.type))
        return True

    def _emit(
        self,
        step: Step,
        batch: Batch,
        arm: str | None,
        visits: Sequence[Visit],
        lists: RankedLists,
        popular: dict[str, int],
        times: Times,
        impressing: Impressing,
    ) -> None:
        items = self._catalogue.table
        recommendations, empty_reasons = self._begin_writing(batch.partition, batch.now_ms, arm, lists)
        outcomes = emission.OutcomeWriter(
            batch.partition, arm, self._arms.identity, popular, self._windows, self._category_of, items.unit_margin
        )
        told = emission.ResolutionWriter(batch.partition, seconds(times.watermark_ms), self._category_of)
        written = self._writer.write(lists)
        policies = lists.policy.tolist()
        skus = items.skus
        digests = items.digests[lists.rows]
        newest: dict[Shopper, EmittedList] = {}
        rows = lists.rows.tolist()
        sizes = lists.sizes.tolist()
        for place, visit in enumerate(visits):
            identifier = emission.recommendation_id(visit, batch.partition)
            step.outputs.append(recommendations.write(visit, identifier, policies[place], written[place], empty_reasons[place]))
            shopper = visit.shopper
            listed = [skus[row] for row in rows[place][: sizes[place]]]
            if visit.topic == MERGES.name:
                visit.emitted = newest.get(shopper, visit.emitted)
            judged, memory, cited = outcomes.write(visit, listed)
            step.outputs.extend(judged)
            shown = self._follow(step, visit, cited, arm, batch.partition, times, impressing, told)
            for handed, _ in visit.handed:
                memory = memory.joined(handed)
            memory = memory.sent(identifier, visit.profile.last_ms, digests[place, : sizes[place]].tobytes(), self._windows)
            made_s = seconds(min(visit.profile.last_ms, times.event_ms))
            learned = newest[shopper] = EmittedList(identifier, listed, memory, times.seen_ms, made_s=made_s, shown=shown)
            for growth in visit.sessions:
                step.outputs.append(emission.session_delta(shopper.name, growth, batch.partition))
            if visit.login is None:
                step.writes[shopper.profile_key] = encode_profile(visit.profile)
                step.writes[shopper.list_key] = encode_list(learned)
            else:
                step.outputs.append(emission.profile_merge(visit, memory, shown, *visit.login))
                step.outputs.append(emission.withdrawal(shopper, batch.partition))
                step.writes[shopper.profile_key] = None
                step.writes[shopper.handed_key] = encode_handed(Handed.of(visit.profile, times.seen_ms))
                step.writes[shopper.list_key] = None
                set_timer(step, shopper, shown.wake_s, 0)

    def _follow(
        self,
        step: Step,
        visit: Visit,
        cited: Sequence[int | None],
        arm: str | None,
        partition: int,
        times: Times,
        impressing: Impressing,
        told: emission.ResolutionWriter,
    ) -> ShownLists:
        """What the shopper was shown, after this visit; what there is to tell of it goes into ``step``."""
        before = visit.emitted.shown
        if visit.profile.flags & FLAG_ITEM_ONLY:
            set_timer(step, visit.shopper, before.wake_s, 0)
            return ShownLists()
        if not self._settings.resolutions:
            if before != ShownLists() or visit.handed:
                step.outputs.extend(told.write(finish(visit, self._windows), visit.shopper.name))
                set_timer(step, visit.shopper, before.wake_s, 0)
            return ShownLists()
        follower = follow(
            visit, cited, arm, partition, watermark_s=seconds(times.watermark_ms), windows=self._windows, gap_s=self._gap_ms // 1000,
            impressing=impressing, margins=self._catalogue.table.unit_margin,
        )  # fmt: skip
        for _, handed in visit.handed:
            follower.join(handed)
        shown = follower.close()
        if follower.resolved or follower.corrections:
            step.outputs.extend(told.write(follower, visit.shopper.name))
        set_timer(step, visit.shopper, before.wake_s, shown.wake_s)
        return shown

    def _begin_writing(
        self, partition: int, now_ms: int, arm: str | None, lists: RankedLists
    ) -> tuple[emission.RecommendationWriter, list[str]]:
        """Who writes the records of these lists, and of each list why it is empty if it is."""
        catalogue = self._catalogue
        # What is popular is listed without weights.
        weights = {TREATMENT: self._arms.treatment, HOLDOUT: None}.get(arm, self._weights)
        about = emission.Circumstances(
            partition, now_ms, catalogue.encoder or "none", catalogue.index.generation, lists.degraded,
            None if self._rules is None else self._rules.digest, lists.model, arm, None if weights is None else weights.digest,
            None if self._feedback is None or arm == HOLDOUT else self._feedback.below,
        )  # fmt: skip
        if lists.passed_over:
            metrics.PINS_PASSED_OVER.inc(lists.passed_over)
        on_sale = catalogue.table.active_count if catalogue.table.version else len(catalogue.table)
        nothing = _NO_PRODUCT if catalogue.table.version else _NOTHING_KNOWN
        if on_sale and self._settings.repeats != "allow":
            nothing = _ALL_KNOWN
        return emission.RecommendationWriter(about), [_RULED_OUT if ruled_out else nothing for ruled_out in lists.ruled_out.tolist()]

    def _prepare_return(self, step: Step | None, state: State, partition: int, now_ms: int, left: Sequence[Shopper]) -> Step | None:
        """Lists for the next visit of those who ever bought: what was bought counts more then. For others the visit's last list stands, and
        for those who are held out.

        Added to ``step``. They rest on the same record as that list. No exposure is counted: it is not known whether they will be seen.
        """
        stored = state.get_many([key for shopper in left for key in (shopper.profile_key, shopper.list_key)])
        visits: list[Visit] = []
        for place, shopper in enumerate(left):
            data, emitted = stored[2 * place], decode_list(stored[2 * place + 1])
            if data is None or not emitted.recommendation_id or emitted.next_visit:
                continue
            if (step and shopper.list_key in step.writes) or self._arms.of(shopper) == HOLDOUT:  # expired in this very step, or held out
                continue
            profile = decode_profile(data)
            if profile.bought_skus:
                topic, _, offset = emitted.recommendation_id.rsplit("-", 2)
                visits.append(Visit(shopper, profile, emitted, topic, int(offset), int(offset), 1))
        if not visits:
            return step
        step = step or Step()
        for arm, part in self._arms.part(visits).items():
            self._return(step, partition, now_ms, arm, part)
        return step

    def _return(self, step: Step, partition: int, now_ms: int, arm: str | None, visits: Sequence[Visit]) -> None:
        """Lists for all but those with whom it fails: the visit's last list stands for them."""

        def attempt(part: Sequence[Visit]) -> Exception | None:
            try:
                made = self._lists_for_return(partition, now_ms, arm, part)
            except Exception as error:
                return error
            step.outputs.extend(made.outputs)
            step.writes.update(made.writes)
            return None

        for visit, failure in failing(visits, attempt):
            logger.error("no list for the next visit after %s", visit.emitted.recommendation_id, exc_info=failure)

    def _lists_for_return(self, partition: int, now_ms: int, arm: str | None, visits: Sequence[Visit]) -> Step:
        step = Step()
        lists = self._rank(arm, visits, now_ms, next_visit=True)
        recommendations, empty_reasons = self._begin_writing(partition, now_ms, arm, lists)
        digests = self._catalogue.table.digests[lists.rows]
        skus = self._catalogue.table.skus
        rows, sizes, policies = lists.rows.tolist(), lists.sizes.tolist(), lists.policy.tolist()
        for place, (visit, items) in enumerate(zip(visits, self._writer.write(lists), strict=True)):
            last = visit.emitted
            identifier = emission.next_recommendation_id(last.recommendation_id)
            step.outputs.append(recommendations.write(visit, identifier, policies[place], items, empty_reasons[place], next_visit=True))
            memory = last.memory.sent(identifier, visit.profile.last_ms, digests[place, : sizes[place]].tobytes(), self._windows)
            listed = [skus[row] for row in rows[place][: sizes[place]]]
            step.writes[visit.shopper.list_key] = encode_list(
                EmittedList(identifier, listed, memory, last.seen_ms, next_visit=True, made_s=last.made_s, shown=last.shown)
            )
        return step

    def _expose(self, step: Step, batch: Batch, visits: Sequence[Visit], ranked: Sequence[RankedLists]) -> None:
        items = self._catalogue.table
        listed = np.zeros(len(items) + 1, dtype=np.bool_)  # the last entry takes the -1 of padding
        for lists in ranked:
            listed[lists.rows] = True
        skus = [items.skus[row] for row in np.flatnonzero(listed[:-1]).tolist()]
        size = items.active_count if items.version else len(items)
        newest = max(visit.last_offset for visit in visits)
        at_ms = max(visit.profile.last_ms for visit in visits)
        encoder = self._catalogue.encoder or "none"
        step.outputs.append(emission.exposure(batch.partition, encoder, newest, at_ms, len(visits), skus, size))

    def _category_of(self, sku: str) -> str | None:
        items = self._catalogue.table
        row = items.row(sku)
        code = items.category.item(row) if row >= 0 else -1
        return items.categories[code] if code >= 0 else None


def _names(shopper: Shopper, profile: Profile) -> list[str]:
    """Under which outcomes and session deltas tell of a shopper."""
    return [shopper.name, *(Shopper(alias, True).name for alias in profile.aliases)]


def tasks(settings: Settings) -> list[Task]:
    """The recommend role's one task: catalogue, vectors and live sessions in memory, shoppers in state."""
    rules = None if settings.business_rules is None else RulesFile(settings.business_rules)
    executor = ThreadPoolExecutor(1, thread_name_prefix="index")
    weights, ranker, sequence, factors = open_models(settings, executor)
    rehearse(
        None if ranker is None else ranker.current, None if sequence is None else sequence.current,
        factors=factors is not None, explain_sessions=settings.explain_sessions,
    )  # fmt: skip
    catalogue = Catalogue(
        settings.index, settings.device, settings.threads,
        executor=executor, snapshot=settings.data_dir / "recommend" / "index.snapshot", snapshot_s=settings.snapshot_s,
        max_bytes=settings.max_event_bytes,
    )  # fmt: skip
    queries = open_queries(settings, catalogue)
    catalogue.load_snapshot()
    sessions = LiveSessions(
        catalogue.table.intern, settings.trending_half_life_s * 1000, settings.live_sessions, with_sources=settings.value_feedback
    )
    processor = RecommendProcessor(
        settings,
        catalogue,
        sessions,
        None if rules is None else rules.rules,
        None if ranker is None else ranker.current,
        None if sequence is None else sequence.current,
        queries,
        None if factors is None else factors.current,
    )

    takers: list[tuple[RulesFile | WatchedFolder[Any] | None, Callable[[Any], None]]] = [
        (rules, processor.rules_changed), (weights, processor.weights_changed), (ranker, processor.ranker_changed),
        (sequence, processor.sequence_changed), (factors, processor.factors_changed),
    ]  # fmt: skip

    def products(records: Sequence[Record]) -> None:
        processor.products_changed(catalogue.apply_products((record.key, record.value) for record in records))

    def vectors(records: Sequence[Record]) -> None:
        processor.vectors_changed(catalogue.apply_embeddings((record.key, record.value) for record in records))

    def background() -> None:
        catalogue.background(int(time.monotonic() * 1000))
        for watched, changed in takers:
            if watched is not None and (found := watched.poll()) is not None:
                changed(found)

    def close() -> None:
        catalogue.close()
        if queries is not None:
            queries.close()

    broadcasts = [
        Broadcast(CATALOG.name, products),
        Broadcast(EMBEDDINGS.name, vectors),
        sessions_broadcast(sessions),
    ]
    if settings.value_feedback:
        feedback = Feedback(settings, processor.feedback_changed)
        broadcasts.append(Broadcast(REGISTER.name, feedback.apply))
    return [
        Task(
            name="recommend",
            sources=(EVENTS.name, MERGES.name, ERASURES.name),
            processor=processor,
            broadcasts=tuple(broadcasts),
            background=background,
            close=close,
        )
    ]
