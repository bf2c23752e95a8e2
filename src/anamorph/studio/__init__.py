"""The studio: latent spaces in the browser. Like the command line, it parses requests, calls the library, and shows results."""
