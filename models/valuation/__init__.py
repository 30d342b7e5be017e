"""What each data asset did for the recommendations: event-time panes of exact sums, and the windows they add up to.

Read in this order: ``panes`` (which panes and windows there are), ``sums`` (what a pane holds), ``tally`` (from outcomes to
sums), ``windows`` (from panes of all partitions to windows), ``record`` (from windows to the published record).
"""

from models.valuation.assets import ALL, ASSET_LIMIT, DIMENSIONS, OTHER, UNCATEGORISED, AssetBound, AssetNumbers
from models.valuation.health import EPSILON, health_of
from models.valuation.money import Takings
from models.valuation.panes import TOTAL, WINDOWS, PaneId, closed_until, is_kept, pane_start, window_bounds
from models.valuation.record import rolling_record
from models.valuation.sums import PaneRecord, PaneSums
from models.valuation.tally import OutcomeRow, Tally, tally
from models.valuation.windows import AssetPanes, WindowSums

__all__ = [
    "ALL",
    "ASSET_LIMIT",
    "DIMENSIONS",
    "EPSILON",
    "OTHER",
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
    "WindowSums",
    "closed_until",
    "health_of",
    "is_kept",
    "pane_start",
    "rolling_record",
    "tally",
    "window_bounds",
]
