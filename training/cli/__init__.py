"""The command line, `videogen-dream COMMAND`."""
