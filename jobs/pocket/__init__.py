"""The procedural world that the embedded model is trained on, and the networks and loops that train it."""
