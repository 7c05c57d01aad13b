"""Panoptic quality, semantic IoU, instance AP, and their reports."""
