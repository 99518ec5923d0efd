"""From the name of a component to its module, its parameters, and who owns which."""
