"""The comparisons of the three papers as lists of trainings."""

from worldmodel.data import StoreInfo
from worldmodel.errors import check_known
from worldmodel.training.ablations.other_tables import OTHER_TABLES
from worldmodel.training.ablations.papers import WORDS
from worldmodel.training.ablations.scale import Scale
from worldmodel.training.ablations.variant import Variant
from worldmodel.training.ablations.videogen_tables import videogen_rows

TABLES = tuple(WORDS)


def variants(table: str, scale: Scale, info: StoreInfo) -> list[Variant]:
    """The rows of a table for episodes like those of `info`."""
    check_known("table", table, TABLES)
    return OTHER_TABLES[table](scale, info) if table in OTHER_TABLES else videogen_rows(table, scale, info)
