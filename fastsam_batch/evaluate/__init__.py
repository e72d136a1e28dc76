"""What masks are worth: the experiments of the method's paper, for a corpus or a model. Knows no Ray."""
