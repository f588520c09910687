"""Results on disk (``results/cells``): identity, reading, writing, listing, and an index in SQL."""

from benchmarks.store.cell import Cell, StoreError
from benchmarks.store.store import CellResult, Store

__all__ = ["Cell", "CellResult", "Store", "StoreError"]
