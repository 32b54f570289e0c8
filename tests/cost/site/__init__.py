"""A site of one process whose lines are long, to be measured from outside."""
