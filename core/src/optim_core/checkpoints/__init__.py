"""Checked first, applied after, one file replaced last: weights and optimizers saved whole and restored exactly."""
