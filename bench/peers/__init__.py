"""What `bench fanout` and `bench faults` measure against, and the load that measures."""
