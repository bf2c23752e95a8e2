"""Pictures: grids of images, and curves. Deterministic, and the same style everywhere."""
