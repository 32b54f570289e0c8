"""Half an hour of clients that come and go in every way: what a process holds is the same at its end."""
