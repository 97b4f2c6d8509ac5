pytest_plugins = "trsm.testing.plugin"
