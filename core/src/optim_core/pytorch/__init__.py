"""Each rule of PyTorch that has to be bent, one file each, with the reason."""
