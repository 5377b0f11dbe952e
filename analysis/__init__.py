"""What a sweep says: reads the store, never a pack."""

from sweeper.aliases import redirect

redirect(__name__)
