"""The experiment file: its schema, overrides, methods, axes and rules."""
