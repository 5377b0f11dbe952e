"""Networks: many small networks of one architecture, trained side by side by autograd.

An architecture (`architecture`) is written for B trials at once: its weights and inputs have a
leading trial dimension that it never mixes. A problem (`problem`) is the data of one trial and
the loss. `block` trains any architecture on any problem.
"""

from sweeper.trainables.networks.block import blocks

__all__ = ["blocks"]
