"""The one evaluator: score cards of a run."""
