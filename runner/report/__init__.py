"""The report: a sweep as a page that opens from disk, a table, and sheets for papers and chat."""
