"""The shell on trio: scopes, tasks, waiters, children, errors and closing."""
