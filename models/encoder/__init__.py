"""Product text to unit vectors."""
