"""The SQL views over a store: trials, metrics, delays, cells."""
