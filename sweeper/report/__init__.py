"""Reports on a sweep for the commands: its status, its figures, the results of queries."""
