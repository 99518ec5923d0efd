"""What can be told of factories, configurations and installed plugins before anything is trained.

The `optim` command is made of this; nothing that trains imports it.
"""
