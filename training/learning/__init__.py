"""One training step: losses, penalties, averaging, augmentation, and the networks in their training form."""
