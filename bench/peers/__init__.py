"""What `bench fanout` measures against, and the load that measures."""
