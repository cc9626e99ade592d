"""The shell that keeps everything moving: one writer, an outbox, feeds, polls, and who restarts whom."""
