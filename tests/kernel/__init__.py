"""Tests of ring 0, `trsm._core`: no trio, no event loop."""
