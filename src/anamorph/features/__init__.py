"""Feature networks, by which samples and reconstructions are measured."""
