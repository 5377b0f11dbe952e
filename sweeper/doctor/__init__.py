"""`sweeper doctor`: proves that a store is whole, and mends what can be mended safely."""
