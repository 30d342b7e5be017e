"""Experiments on shoppers."""
