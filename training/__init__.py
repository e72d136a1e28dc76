"""How the built-in models are made: one command each, from a data folder to published files."""
