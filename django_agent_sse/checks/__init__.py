"""System checks: what is known not to work in a project, with a hint."""
