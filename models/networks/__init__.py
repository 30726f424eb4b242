"""The networks, in PyTorch; `models.create` builds them."""
