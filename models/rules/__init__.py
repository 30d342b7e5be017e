"""Business rules: what a shop wants shown, moved down, left out or held in check, whatever the sources say of it."""

from models.rules.book import RuleBook, Ruling
from models.rules.file import BusinessRules
from models.rules.reading import Fault, RulesError, read_rules

__all__ = ["BusinessRules", "Fault", "RuleBook", "RulesError", "Ruling", "read_rules"]
