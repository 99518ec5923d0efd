"""What tests of the tools share: sound optimizers, and some that are broken in one way each."""
