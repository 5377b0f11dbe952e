"""What a sweep trains. The engine loads these modules by name and never imports them."""

from sweeper.aliases import redirect

redirect(__name__)
