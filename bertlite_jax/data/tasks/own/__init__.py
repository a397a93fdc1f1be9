"""People's own files: recognised by their names and their content, in whatever of the usual layouts."""

from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.data.tasks.own.task import OwnTask, task_of_file

__all__ = ["OwnOptions", "OwnTask", "task_of_file"]
