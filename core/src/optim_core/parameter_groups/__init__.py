"""Which parameters of a component are in which parameter group, with which options: from rules to groups.

`settings` is what each rule or policy gives which parameters, found by `places`; `trial` finds out what groups an
optimizer has, and `options` checks values by that; `planning` makes of it the groups that a factory is given, and
`freezing` freezes; `assignment` says who got what.
"""
