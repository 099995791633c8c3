"""Ways to show results: pages, tables, notebooks."""
