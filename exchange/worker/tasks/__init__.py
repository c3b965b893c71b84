"""What a child does: one module per task, chosen by name."""
