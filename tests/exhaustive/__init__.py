"""What takes minutes: run by a session of its own, not by the ordinary suite."""
