"""Where images come from: one file an input format. Knows no models."""
