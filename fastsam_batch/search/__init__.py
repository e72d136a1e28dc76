"""Text to masks: query vectors, exact scan, results as files and as pictures. Knows no segmentation."""
