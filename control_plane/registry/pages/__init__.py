"""The registry's pages: rendered on the server, with no script, no build step and nothing from elsewhere."""
