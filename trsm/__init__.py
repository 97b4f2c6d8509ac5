"""trsm."""
