"""The small model that ships: its files, training and measures. See README.md."""
