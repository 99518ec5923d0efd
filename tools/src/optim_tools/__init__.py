"""The `optim` command, inspection of plugins and configurations, scaffolding, and the conformance kit."""

__version__ = "0.2.0"
