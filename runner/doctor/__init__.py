"""What is right, what is wrong and how to mend it: this machine, and an experiment on it."""
