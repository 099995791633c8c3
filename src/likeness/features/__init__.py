"""Feature extractors: what images are compared in, and matrices of deep features."""
