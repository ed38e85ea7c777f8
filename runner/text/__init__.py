"""Reading text and YAML, `UserError`, and text that a terminal or a log may have."""
