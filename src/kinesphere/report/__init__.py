"""One self-contained HTML page that shows what a finished run found."""
