"""What is known of every job, shared by all workers of one broker."""
