"""The `optim` command, inspection of plugins and configurations, scaffolding, and the conformance kit."""

__version__ = "0.1.0"
