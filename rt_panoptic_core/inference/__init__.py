"""From network outputs to panoptic labels: dense boxes, query boxes, masks, fusion."""
