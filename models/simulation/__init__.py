"""A simulated storefront with planted tastes: the demo's data source, and a ground truth that tests can reason about.

``Storefront(seed)`` holds a catalogue with believable text and yields events endlessly. Everything is a function of the
seed (and, in the closed loop, of the lists that were shown), so a run can be repeated to the byte.
"""

from models.simulation.catalogue import Catalogue, generate_catalogue
from models.simulation.faults import FAULTS, SimulatedRecord
from models.simulation.storefront import Shelf, Storefront, StorefrontOptions

__all__ = ["FAULTS", "Catalogue", "Shelf", "SimulatedRecord", "Storefront", "StorefrontOptions", "generate_catalogue"]
