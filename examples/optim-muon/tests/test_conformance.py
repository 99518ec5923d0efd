"""The conformance kit, as an author runs it."""

from optim_tools.conformance import OptimizerConformance


class TestMuonAdamW(OptimizerConformance):
    factory = "muon_adamw_warmup_cosine"
