"""What optim costs, against doing the same by hand: `python -m benchmarks` measures the whole table in one go.

`nox -s bench` runs it; `nox -s bench -- --list` says what is measured.
"""
