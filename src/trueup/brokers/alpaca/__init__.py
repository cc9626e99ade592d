"""Alpaca, behind our ports: requests (`client`), order events (`trading_stream`), quotes (`stock_data_stream`).

Built around the vendor's own SDK, whose silent reconnects, missing deadlines and repeated requests are kept out of the
way. Not for reasoning about orders. Invariant: whatever Alpaca or the network does ends in one of our words or one of
our errors.
"""
