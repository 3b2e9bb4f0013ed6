"""Object storage: keys, schemas, commits, checkpoints."""

from lth.store.claims import Owner
from lth.store.columns import SCHEMA_VERSION
from lth.store.content import content_hash
from lth.store.masks import mask_sha256, pack, unpack
from lth.store.objects import READING, Retries
from lth.store.reader import Committed
from lth.store.schemas import LEVELS, MASKS, METRICS, RESULT_COLUMNS, conform, result_columns
from lth.store.score_columns import with_scores
from lth.store.store import Store
from lth.store.unit import Unit, unit_name_of

__all__ = [
    "LEVELS",
    "MASKS",
    "METRICS",
    "READING",
    "RESULT_COLUMNS",
    "SCHEMA_VERSION",
    "Committed",
    "Owner",
    "Retries",
    "Store",
    "Unit",
    "conform",
    "content_hash",
    "mask_sha256",
    "pack",
    "result_columns",
    "unit_name_of",
    "unpack",
    "with_scores",
]
