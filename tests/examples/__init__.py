"""Tests of the examples: each is run as a process, as a user runs it."""
