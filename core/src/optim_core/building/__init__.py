"""`build_optimizers`: from models and a configuration to one optimizer for each component. Start reading here."""
