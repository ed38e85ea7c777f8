"""Slots: which to start, their supervisors, stopping them, and what is run at the end."""
