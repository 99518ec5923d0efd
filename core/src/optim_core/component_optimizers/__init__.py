"""The mapping of a model's optimizers by component, driven as one."""
