"""Users' own training: scripts and functions, and the `Run` that connects them with a sweep.

`run`, `fields`, `state`, `channel` and `alone` are what a script imports: they need only Python's
standard library. `own`, `script` and `function` are the other side: they make a script or a
function a trainable (`sweeper.trainable`).
"""
