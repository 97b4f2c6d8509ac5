"""One module for each library; each has `VERSION_OF` and `CASES`, and imports nothing but that library."""
