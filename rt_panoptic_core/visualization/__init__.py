"""Pictures of results: overlays, colours, legends."""
