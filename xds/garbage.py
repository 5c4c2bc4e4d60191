"""When Python looks for garbage in circles, of which there is next to none here: what is large stays for
good, and what comes with a change is freed by counting.
"""

from __future__ import annotations

import gc

#: Allocations until a look at what is young, and looks until the next older ones are looked at, too. By
#: default (700) a change for a thousand streams is a hundred looks, a twentieth of its time.
_THRESHOLD = (20_000, 20, 20)


def settle() -> None:
    """Never look again at what is here now, and seldom at the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLD)
