"""The sequence model: a small transformer that turns what a shopper did last into a vector among the items' vectors."""

from models.sequence.ensemble import SequenceEnsemble
from models.sequence.model import SequenceModel, SequenceModelError
from models.sequence.options import SequenceOptions
from models.sequence.training import Epoch, train

__all__ = ["Epoch", "SequenceEnsemble", "SequenceModel", "SequenceModelError", "SequenceOptions", "train"]
