"""Tests of `trsm.testing`, the tools for users' own machines."""
