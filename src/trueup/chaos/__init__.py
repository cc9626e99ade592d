"""Chaos: whole lives of the real runtime amid drawn harm, in virtual time, judged by what the exchange's books say.

For: letting anybody prove on their own machine that belief comes to equal the broker's books whatever happens in
between (`trueup chaos`). Not for a real account, and not for the wire. Invariant: every life follows from its seed
alone, so that what was found once is found again.
"""
