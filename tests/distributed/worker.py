"""A process that runs scenarios by name: `python worker.py LIMIT RANK WORLD_SIZE STORE`.

Reads a line `["module.function", *arguments]` at a time and answers `{"error": null or a traceback}`,
until there is nothing more to read.
"""

import datetime
import faulthandler
import importlib
import json
import os
import sys
import traceback
import warnings

import torch
from torch import distributed


def run(scenario, *arguments):
    module, function = scenario.split(".")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The distributed checkpoints of the oldest PyTorch warn of themselves.
        warnings.filterwarnings("ignore", "TypedStorage is deprecated", UserWarning)
        getattr(importlib.import_module(module), function)(*arguments)


def main():
    limit, rank, world_size = map(int, sys.argv[1:4])
    # Whatever a library prints must not get among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.dump_traceback_later(limit, exit=True)
    torch.set_num_threads(1)
    if world_size > 1:
        distributed.init_process_group(
            "gloo",
            init_method=f"file://{sys.argv[4]}",
            rank=rank,
            world_size=world_size,
            timeout=datetime.timedelta(seconds=limit),
        )
    faulthandler.cancel_dump_traceback_later()
    for line in sys.stdin:
        faulthandler.dump_traceback_later(limit, exit=True)
        error = None
        try:
            run(*json.loads(line))
        except Exception:
            error = traceback.format_exc()
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps({"error": error}), file=answers, flush=True)
    if world_size > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
