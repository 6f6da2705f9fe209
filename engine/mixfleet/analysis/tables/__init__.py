"""Tables: one module for each question that `run.insight` answers."""
