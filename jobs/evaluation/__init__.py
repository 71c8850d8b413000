"""Every method on the same scenes, prompts and seeds: what is rendered, how it is measured, what is made of the numbers."""
