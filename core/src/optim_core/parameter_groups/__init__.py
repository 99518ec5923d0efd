"""Which parameters of a component are in which parameter group, with which options: from rules to groups.

`rules` is what a configuration says; `policies` are rules by name, from hooks; `trial` finds out what groups an
optimizer has; `planning` makes of all that the groups that a factory is given; `names` has states of optimizers
matched by the names of their parameters; `assignment` says who got what.
"""
