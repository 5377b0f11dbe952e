"""Tables computed from the views: phase diagrams, curves, amplification, search history."""
