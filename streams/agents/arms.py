"""Which arm of an experiment a shopper's lists are made by: what is popular for some, other weights for others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from models.experiments.assignment import Experiment
from models.ranking.weights import Weights
from models.valuation.arms import HOLDOUT
from streams.agents.shoppers import Shopper, Visit
from streams.settings import Settings

#: Beside ``HOLDOUT``, whose lists are of what is popular, to measure by: those whose lists are the recommender's.
TREATED: Final = "treated"
#: In the place of ``TREATED`` where weights are compared: those of the setting ``weights``, and those of ``treatment_weights``.
CONTROL: Final = "control"
TREATMENT: Final = "treatment"


class Arms:
    """Drawn by the settings from their ``experiment_salt`` and the shopper's key on ``recommendations``: the ``user_id``, else ``session:``
    and the ``session_id``. So a user is in one arm on every device and in every visit. An anonymous session is in one until it logs in:
    all that names the session, its login included, is of the session's arm, and all that names the user of the user's.

    ``treatment``: the weights of the arm ``TREATMENT``, if there is one. ``experiment``: None where there is but one arm. Raises
    ``WeightsError`` where the file of weights holds none.
    """

    def __init__(self, settings: Settings) -> None:
        self.treatment = None if settings.treatment_weights is None else Weights.load(settings.treatment_weights)
        held_out = settings.holdout_share
        rest = 1.0 - held_out
        second = rest * settings.treatment_share
        shares = {TREATED: rest} if self.treatment is None else {CONTROL: rest - second, TREATMENT: second}
        self.experiment = (
            Experiment("lists", settings.experiment_salt, {HOLDOUT: held_out, **shares}) if held_out or self.treatment is not None else None
        )

    @property
    def identity(self) -> str | None:
        """What tells the experiment from others (``Experiment.identity``); None where there is none."""
        return None if self.experiment is None else self.experiment.identity

    def of(self, shopper: Shopper) -> str | None:
        """The arm of ``shopper``; None where there is no experiment."""
        return None if self.experiment is None else self.experiment.arm(shopper.topic_key.decode())

    def part(self, visits: Sequence[Visit]) -> dict[str | None, list[Visit]]:
        """Visits by the arm of their shopper, in their order."""
        if self.experiment is None:
            return {None: list(visits)}
        parts: dict[str | None, list[Visit]] = {}
        for visit in visits:
            parts.setdefault(self.of(visit.shopper), []).append(visit)
        return parts
