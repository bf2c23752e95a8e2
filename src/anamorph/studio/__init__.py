"""The studio: a latent space in the browser. A layer beside the command line: it parses, calls, and shows."""
