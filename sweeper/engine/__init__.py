"""Launching: plan the packs, run them here or on Ray, report progress."""
