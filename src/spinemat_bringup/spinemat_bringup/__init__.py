"""The description of the graph, the command line, and the installed files."""
