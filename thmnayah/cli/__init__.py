"""The command line: a client of the API like any other, made for people and their scripts."""
