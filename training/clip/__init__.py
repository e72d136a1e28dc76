"""The built-in CLIP: `python -m training.clip --data FOLDER --output FOLDER`. See docs/model-card-clip.md."""
