"""Entry points of installed distributions, the registry, and the hooks; listed without importing any of them."""
