"""Text files, folders and datasets become documents, on disk, in object storage or on the hub."""
