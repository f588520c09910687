"""``python -m benchmarks.store list|sync``: the results, listed or copied into a database."""

import sys

from benchmarks.store.store import main

sys.exit(main())
