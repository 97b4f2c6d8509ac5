"""Ring 0, the kernel: decides, and knows neither trio nor I/O. It imports the standard library and attrs only."""
