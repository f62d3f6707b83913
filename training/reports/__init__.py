"""Reports as Markdown and plots."""
