"""What a sweep trains. The engine loads these modules by name and never imports them."""
