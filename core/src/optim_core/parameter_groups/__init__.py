"""From rules and policies to the parameter groups of a component."""
