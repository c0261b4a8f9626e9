"""The command line: imports the core, is never imported by it."""
