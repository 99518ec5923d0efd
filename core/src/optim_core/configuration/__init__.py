"""YAML or a mapping becomes component specifications, with every problem at its line."""
