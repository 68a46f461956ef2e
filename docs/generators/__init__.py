"""Pages that are made from what the commands and the results of benches say."""
