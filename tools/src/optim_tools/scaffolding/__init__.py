"""Writing new plugins: complete distributions, with an optimizer of their own or around one that exists.

Nothing here but what reads a class imports torch.
"""
