"""New cells at the boundary of a phase diagram, and more steps for censored trials."""
