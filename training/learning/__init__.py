"""One step of learning: the losses, the penalty, the averages, and the networks that learn."""
