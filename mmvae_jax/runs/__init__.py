"""What keeps a run: its command line, folder, log, checkpoints and report, and the runner of every experiment."""
