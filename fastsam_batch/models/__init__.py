"""Weights, the segmenter and the embedder. Know no storage layout and no Ray."""
