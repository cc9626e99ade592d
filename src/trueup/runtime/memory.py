"""How the process treats memory: belief lives long and is large, inputs are many and die young.

The collector's defaults walk all of belief again and again while a burst is folded; fewer, later walks find the same.
"""

from __future__ import annotations

import gc

YOUNG = 50_000
"""Objects between two looks at the youngest; the default of 700 costs a quarter of all time under load."""


def settle_collector() -> None:
    """Set the collector for a long-lived fold; call once belief has been restored."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 100)
