"""trueup keeps a trading system's belief true to its broker.

This package is the whole program below the dashboard; `trueup.cli` is its front door. It is no library of trading
strategies and no market data store.

Invariant: importing this package alone does nothing but name its version; every room is imported by who needs it.
"""

__version__ = "0.1.0"
