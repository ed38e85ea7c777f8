"""What the experiment's inputs are: clips, sound, prompts and job lists, found and matched."""
