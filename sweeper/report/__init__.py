"""Answers for commands: the status of a sweep, and its figures as files."""
