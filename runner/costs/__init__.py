"""What a sweep will take, and by what source."""
