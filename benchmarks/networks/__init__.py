"""Networks that were trained, against each other: how right they are, and how long they take for it."""
