"""Fixtures of all the tools' tests."""

from core_support.distributions import clean_process_state, distribution, only_fake_distributions

__all__ = ["clean_process_state", "distribution", "only_fake_distributions"]
