"""Learning-rate schedules: pure functions of a step, without state and without torch."""
