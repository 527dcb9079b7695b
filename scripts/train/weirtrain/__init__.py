"""Trains, calibrates, exports and measures Weir's model bundles.

The bundle contract is models/README.md. `text`, `shape` and `score` are the
Python twin of the Go classifier; the rest makes what they read.
"""
