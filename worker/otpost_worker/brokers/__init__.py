"""Where jobs come from and results go to."""
