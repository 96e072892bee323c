"""Tasks with a score: the nine of GLUE or a TSV of one's own, their examples and their metrics."""
