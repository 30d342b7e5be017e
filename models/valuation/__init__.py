"""What each data asset did for the recommendations: event-time panes of exact sums, and the windows they add up to.

Read in this order: ``panes`` (which panes and windows there are), ``sums`` (what a pane holds), ``tally`` (from outcomes to
sums), ``windows`` (from panes of all partitions to windows), ``record`` (from windows to the published record).

What rows and assets did for one vote of nearest neighbours, as exact Shapley values: ``knn_shapley`` (rows), ``truncation`` (a few
rows and counts of all others), ``asset_game`` (assets as the players).
"""

from models.valuation.asset_game import PLAYER_LIMIT, asset_game, leave_one_out
from models.valuation.assets import ALL, ASSET_LIMIT, DIMENSIONS, OTHER, UNCATEGORISED, AssetBound, AssetNumbers
from models.valuation.health import EPSILON, health_of
from models.valuation.knn_shapley import centred, knn_shapley, soft_label_shapley, threshold_shapley
from models.valuation.money import Takings
from models.valuation.panes import TOTAL, WINDOWS, PaneId, closed_until, is_kept, pane_start, window_bounds
from models.valuation.record import rolling_record
from models.valuation.sums import PaneRecord, PaneSums
from models.valuation.tally import OutcomeRow, Tally, tally
from models.valuation.truncation import Truncated, truncated, truncation_error_max
from models.valuation.windows import AssetPanes, WindowSums

__all__ = [
    "ALL",
    "ASSET_LIMIT",
    "DIMENSIONS",
    "EPSILON",
    "OTHER",
    "PLAYER_LIMIT",
    "TOTAL",
    "UNCATEGORISED",
    "WINDOWS",
    "AssetBound",
    "AssetNumbers",
    "AssetPanes",
    "OutcomeRow",
    "PaneId",
    "PaneRecord",
    "PaneSums",
    "Takings",
    "Tally",
    "Truncated",
    "WindowSums",
    "asset_game",
    "centred",
    "closed_until",
    "health_of",
    "is_kept",
    "knn_shapley",
    "leave_one_out",
    "pane_start",
    "rolling_record",
    "soft_label_shapley",
    "tally",
    "threshold_shapley",
    "truncated",
    "truncation_error_max",
    "window_bounds",
]
