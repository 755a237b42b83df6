"""The command line: one small file a command, found by `main` through its presence in this
folder.
"""
