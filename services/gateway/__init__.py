"""Gateway: the REST edge in front of the mesh; owns no tables, publishes and consumes nothing."""
