"""Muon for the hidden matrices and AdamW for everything else, in one optimizer with one schedule."""

from optim_muon.assignment import parameter_groups
from optim_muon.factory import MuonAdamWFactory
from optim_muon.optimizer import MuonAdamWWithWarmupCosine

__version__ = "0.1.0"

__all__ = ["MuonAdamWFactory", "MuonAdamWWithWarmupCosine", "parameter_groups"]
