"""Readers of data sets, generated streets, augmentation."""
