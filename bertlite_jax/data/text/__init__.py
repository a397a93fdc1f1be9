"""Text files and folders become documents, on disk or in object storage."""
