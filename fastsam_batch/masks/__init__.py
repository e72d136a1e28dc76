"""Pure functions on masks and boxes. Know no models, no files and no Ray."""
