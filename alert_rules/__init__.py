"""Alert rules: files, model and loader."""
