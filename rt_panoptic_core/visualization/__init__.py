"""Overlays, legends and label pictures for people."""
