"""The rules, by what they rewrite."""
