"""What a sweep says: reads the store, never a pack."""
