"""Datasets, read by position: folders, zips, arrays, IDX files, drawn shapes, layered parts, public datasets, memory."""
