"""Masks of a corpus as labels, one file a format: read as a stream, within an annotator's budget."""
