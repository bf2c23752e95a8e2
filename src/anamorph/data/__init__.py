"""Sources of examples, as functions of position: folders, zips, arrays, IDX files, drawn shapes, layered parts, public sets."""
