"""Golden files: what earlier versions of this project saved, and how training continues from it."""
