"""The search methods, one or a few related ones a file; a new file is found by itself."""
