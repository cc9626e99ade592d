"""How views leave the sequencer: numbered, encoded once, handed to everyone who listens."""
