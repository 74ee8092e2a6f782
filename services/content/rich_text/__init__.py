"""Rich text as blocks: their rules, their other forms (Markdown, HTML), their edits and their differences."""
