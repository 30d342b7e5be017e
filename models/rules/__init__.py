"""Business rules: what a shop wants shown, moved down, left out or held in check, whatever the sources say of it.

Here is what reads them; ``models.rules.book`` applies them, and takes as long to load as compiled code does.
"""

from models.rules.file import BusinessRules
from models.rules.reading import Fault, RulesError, read_rules

__all__ = ["BusinessRules", "Fault", "RulesError", "read_rules"]
