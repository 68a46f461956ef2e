"""Hard positives and negatives for one's own captions: by rules, WordNet or a chat model."""

from ._responses import AnswerError, EndpointError
from .endpoint import ChatEndpoint
from .forms import FormError
from .instructions import INSTRUCTIONS
from .jobs import GeneratedCaptions, generate_by_endpoint, generate_by_rules
from .meaning import reject_reason
from .order import generate_by_order
from .rules import Edit, negatives, positives
from .wordnet import WordNet

__all__ = [
    "INSTRUCTIONS",
    "AnswerError",
    "ChatEndpoint",
    "Edit",
    "EndpointError",
    "FormError",
    "GeneratedCaptions",
    "WordNet",
    "generate_by_endpoint",
    "generate_by_order",
    "generate_by_rules",
    "negatives",
    "positives",
    "reject_reason",
]
