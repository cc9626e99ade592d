"""The durable memory: inputs in the one order in which they were decided, for ever readable."""
