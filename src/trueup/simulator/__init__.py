"""The simulator: our own market, for tests, demos and first runs.

It shares the project's trading words and none of its reasoning, so that it cannot err in the same way as the core.
`exchange` decides, `market` moves prices, `faults` makes mischief, and `alpaca` speaks a broker's wire on one local
port. Not for judging strategies: its prices are invented or replayed, and its fills know no market impact.
Invariant: the exchange's books are always consistent; only the messages about them may be late, lost, doubled or
wrong.
"""
