"""A constructor's signature is the schema: types, rules across arguments, the nearest spelling of a wrong name."""
