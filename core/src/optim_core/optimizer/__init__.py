"""`ScheduledOptimizer`: one counter, kept in `param_groups`; states matched by name; evaluation weights."""
