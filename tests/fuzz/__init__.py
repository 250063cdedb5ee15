"""Damaged inputs for every reader of files that somebody else may have written.

`readers/` has one module for each part of the package; `python -m tests.fuzz --help` says how to run many of them.
"""
