"""What the stages find out, as plain data: frozen dataclasses that every room may read."""
