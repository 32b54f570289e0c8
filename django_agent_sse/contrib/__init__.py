"""What is added where it is wanted; nothing of it is loaded unless a project names it."""
