"""Opening what others have written."""
