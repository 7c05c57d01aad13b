"""The ``rt-panoptic`` command: one module a subcommand, imported only when it is called."""
