"""Searches as their authors published them, run on our predictor and table."""
