"""What a Para-Former is: its spec, the reference module, and what its outputs mean."""
