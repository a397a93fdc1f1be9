"""One readable script a job, top to bottom. The only place where the parts meet."""
