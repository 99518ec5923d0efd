"""`python -m optim_tools`: the `optim` command."""

import os
import sys

from optim_tools.command import main

if __name__ == "__main__":
    if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
        # Python put it there for `-m`; a module that happens to lie here is none of the command's.
        del sys.path[0]
    main()
