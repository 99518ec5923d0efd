"""`python -m optim_core`: the `optim` command."""

from optim_core.command import main

if __name__ == "__main__":
    main()
