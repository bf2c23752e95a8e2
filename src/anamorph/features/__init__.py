"""Feature networks: images in, numbers that tell them apart out; what samples and reconstructions are measured by."""
