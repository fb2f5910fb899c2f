"""List files: names that others maintain, in the forms in which they are published, looked up in a trie."""
