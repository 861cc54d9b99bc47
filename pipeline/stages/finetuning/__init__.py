"""The optional end-to-end stage: backbone and head together, on clips from the videos."""
