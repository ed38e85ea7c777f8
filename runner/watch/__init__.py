"""Where a sweep stands: snapshots, and how a terminal shows them."""
