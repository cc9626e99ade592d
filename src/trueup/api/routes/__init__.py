"""The gateway's routes, one file for each thing that a client wants."""
