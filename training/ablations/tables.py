"""The comparisons of the three papers as lists of trainings."""

from worldmodel.data import StoreInfo
from worldmodel.errors import did_you_mean
from worldmodel.training.ablations.other_tables import OTHER_TABLES
from worldmodel.training.ablations.papers import WORDS
from worldmodel.training.ablations.scale import Scale
from worldmodel.training.ablations.variant import Variant
from worldmodel.training.ablations.videogen_tables import videogen_rows

TABLES = tuple(WORDS)


def variants(table: str, scale: Scale, info: StoreInfo) -> list[Variant]:
    """The rows of a table for episodes like those of `info`."""
    if table not in TABLES:
        raise ValueError(f"unknown table {table!r}.{did_you_mean(table, (*TABLES, 'all'))}")
    return OTHER_TABLES[table](scale, info) if table in OTHER_TABLES else videogen_rows(table, scale, info)
