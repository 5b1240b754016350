"""From a checkpoint to a checked bundle: the options, the stages in their order, and the same checks again later."""
