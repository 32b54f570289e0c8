"""What anybody sends has a cost, which grows no faster than it does and has a limit."""
