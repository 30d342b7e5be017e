"""``python -m tests.faults --seed N`` makes, writes and runs a schedule; ``--schedule FILE`` runs one again."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path
from typing import get_args

from streams.broker import RealKafka
from tests.faults.execution import run_state_job
from tests.faults.habits import EVERYTHING
from tests.faults.schedule import BROKER_FAULTS, TAKEOVERS, WORKER_FAULTS, Job, Schedule, Shop, Swappable, generated
from tests.faults.storefront import Storefront, run_storefront
from tests.faults.verdict import Verdict


def main() -> int:
    """One run on a Kafka of its own; 0 if nothing was lost, doubled, reordered or altered."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--schedule", type=Path, help="run this file")
    source.add_argument("--seed", type=int, help="generate a schedule from this seed")
    parser.add_argument("--faults", type=int, default=6, help="how many faults to generate")
    parser.add_argument("--workers", type=int, default=2, help="how many worker processes to generate for")
    parser.add_argument("--storefront", action="store_true", help="generate for the real roles instead of the state-only job")
    parser.add_argument("--broker", action="store_true", help="generate faults of the broker too")
    parser.add_argument("--standby", action="store_true", help="workers follow the others' partitions, which faults make them take over")
    parser.add_argument(
        "--swap", action="append", default=[], choices=get_args(Swappable), help="with --storefront: swap these files too (repeat)"
    )
    parser.add_argument("--write", type=Path, help="write the schedule there and do not run it")
    options = parser.parse_args()
    if options.schedule is not None:
        try:
            schedule = Schedule.load(options.schedule)
        except (OSError, ValueError) as error:
            parser.error(f"{options.schedule}: {error}")
    else:
        kinds = WORKER_FAULTS + (TAKEOVERS if options.standby else ()) + (BROKER_FAULTS if options.broker else ())
        kinds += ("swap",) if options.swap else ()
        if options.swap and not options.storefront:
            parser.error("--swap is for --storefront")
        job: Job = "storefront" if options.storefront else "state"
        load = 50 if options.storefront else 250
        schedule = generated(
            options.seed, workers=options.workers, faults=options.faults, kinds=kinds, load=load, job=job,
            standby=options.standby, swaps=options.swap,
        )  # fmt: skip
        if options.swap:
            schedule = replace(schedule, shop=Shop(feed_seed=options.seed, habits=EVERYTHING, swaps=tuple(options.swap)))
    if options.write is not None:
        options.write.write_text(schedule.to_json())
        return 0
    # Kept, logs and data dirs included, unless all is well.
    folder = Path(tempfile.mkdtemp(prefix="assay-faults-"))
    with RealKafka(folder / "kafka", brokers=schedule.brokers) as cluster:
        verdict = run(schedule, cluster, folder)
    print(verdict)
    if verdict.clean:
        shutil.rmtree(folder)
    return 0 if verdict.clean else 1


def run(schedule: Schedule, cluster: RealKafka, folder: Path) -> Verdict:
    """Carry it out on the job that it names."""
    name = f"f{uuid.uuid4().hex[:8]}"
    if schedule.job == "state":
        return run_state_job(schedule, cluster.bootstrap_servers, name, folder, cluster=cluster)
    shop = schedule.shop or Shop(feed_seed=schedule.seed, habits=EVERYTHING)
    storefront = Storefront(
        cluster.bootstrap_servers, f"{name}.", folder, schedule.workers,
        roles=shop.roles, seed=shop.feed_seed, habits=shop.habits, users=shop.users, session_gap_s=shop.session_gap_s,
        standby=schedule.standby, swaps=shop.swaps,
    )  # fmt: skip
    return run_storefront(schedule, storefront, folder, cluster)


if __name__ == "__main__":
    sys.exit(main())
