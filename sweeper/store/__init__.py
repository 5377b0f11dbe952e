"""The store of a sweep: an append-only ledger, immutable Parquet files, checkpoints."""
