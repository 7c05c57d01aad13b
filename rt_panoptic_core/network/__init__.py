"""The network: backbone, feature pyramid, unified panoptic head, checkpoints."""
