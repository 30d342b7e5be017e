"""What the stream teaches is what the file teaches: the same lists, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation import Sequences, SessionDataset, judge
from models.evaluation.dataset import split_tail
from models.evaluation.methods import ALONE, SessionIndexMethod
from models.retrieval.session_votes import BLENDED, SessionParameters
from streams.evaluation.stream import StreamedSessionIndex, compare
from streams.settings import Settings

ITEMS = 300


def walks(sessions: int) -> list[list[int]]:
    """Neighbourhoods of items, some far more popular than others; clicks that come back; one session in a hundred is a bot's."""
    rng = np.random.default_rng(4)
    made = []
    for number in range(sessions):
        at = int(ITEMS * rng.random() ** 3)
        length = 200 if number % 100 == 50 else 1 + int(rng.integers(12))
        session = [at]
        while len(session) < length:
            session.append(session[0] if rng.random() < 0.2 else (session[-1] + int(rng.integers(-4, 5))) % ITEMS)
        made.append(session)
    return made


@pytest.fixture(scope="module")
def dataset() -> SessionDataset:
    """A name more than there are items: nobody clicked it, but tests speak of it."""
    head, prefixes, targets = split_tail(Sequences.of(walks(3_000)), 0.1)
    unknown = Sequences.of([*(prefixes[index].tolist() for index in range(len(prefixes))), [ITEMS], [ITEMS, 5]])
    return SessionDataset(tuple(map(str, range(ITEMS + 1))), head, unknown, np.append(targets, [3, 4]).astype(np.int32))


def taught(dataset: SessionDataset, parameters: SessionParameters = ALONE) -> SessionIndexMethod:
    method = SessionIndexMethod(parameters)
    method.learn(dataset.train, len(dataset.names))
    return method


@pytest.mark.parametrize("parameters", [ALONE, BLENDED])
def test_one_partition_gives_every_list_of_the_file(dataset: SessionDataset, parameters: SessionParameters) -> None:
    streamed = StreamedSessionIndex(Settings(), partitions=1, parameters=parameters)
    streamed.learn(dataset.train, len(dataset.names))
    found = compare(streamed, taught(dataset, parameters), dataset)
    assert (found.tests, found.clicks) == (len(dataset.prefixes), len(dataset.train.rows))
    assert (found.overtaken, found.differing, found.unexplained) == (0, 0, 0)
    # The same comparison tells when one session less, or another weight, was learned.
    shorter = SessionIndexMethod(parameters)
    shorter.learn(dataset.train.slice(1, len(dataset.train)), len(dataset.names))
    assert compare(streamed, shorter, dataset).differing > 0
    assert compare(streamed, taught(dataset, SessionParameters(recent=1)), dataset).differing > len(dataset.prefixes) / 2


def test_several_partitions_give_the_lists_of_the_order_in_which_they_were_read(dataset: SessionDataset) -> None:
    streamed = StreamedSessionIndex(Settings(), partitions=4)
    offline = judge(SessionIndexMethod(), dataset)
    online = judge(streamed, dataset)
    found = compare(streamed, taught(dataset), dataset)
    assert found.overtaken > len(dataset.train.rows) / 4
    assert found.unexplained == 0
    # The newest sessions of an item are others where the order is another, so some lists differ, and most do not.
    assert 0 < found.differing < len(dataset.prefixes) / 2
    assert online.hit_rate_at_20 == pytest.approx(offline.hit_rate_at_20, abs=0.5)
    assert online.mrr_at_20 == pytest.approx(offline.mrr_at_20, abs=0.5)


def test_sessions_beyond_what_a_worker_holds_are_refused(dataset: SessionDataset) -> None:
    streamed = StreamedSessionIndex(Settings(live_sessions=1_000))
    with pytest.raises(ValueError, match="ASSAY_LIVE_SESSIONS"):
        streamed.learn(dataset.train, len(dataset.names))
