"""What the package says in the language of the reader, and where: found in its source, its templates and its scripts."""
