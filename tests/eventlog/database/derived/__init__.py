"""Engines that are derived from Django's, as those of other packages are: to the log they are unknown databases."""
