"""Tasks: the files, columns, labels, metrics and head of each, and its examples one at a time."""

from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own import OwnOptions, OwnTask, task_of_file
from bertlite_jax.data.tasks.passages import balance
from bertlite_jax.data.tasks.reading import read
from bertlite_jax.data.tasks.table import TASKS
from bertlite_jax.data.tasks.task import Columns, Task

__all__ = ["TASKS", "Columns", "Example", "OwnOptions", "OwnTask", "Task", "balance", "read", "task_of_file"]
