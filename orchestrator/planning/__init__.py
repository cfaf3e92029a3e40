"""What will run: tasks, pairs, fingerprints, cost."""
