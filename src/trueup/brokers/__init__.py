"""The brokers: one folder each, behind the ports `Broker`, `Feed` and `QuoteFeed`.

Not for deciding anything. Invariant: a broker's words, numbers and errors never leave its folder untranslated.
"""
