"""One file per paper: its configuration, its network and its training recipe."""
