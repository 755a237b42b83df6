"""Reading and writing of files, one module a format; no science here."""
