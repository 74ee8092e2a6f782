"""Rich text as blocks: their rules, their other forms (Markdown, HTML) and their differences."""
