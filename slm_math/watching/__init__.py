"""A page that follows a training run: files that grow, read once, and a local server."""
