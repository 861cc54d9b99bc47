"""Work on the machines of a dask cluster: it knows of tasks, workers and what they must agree on, not of videos."""

from pipeline.cluster.connection import Connection, LocalWorkers, connected
from pipeline.cluster.dispatch import run_tasks
from pipeline.cluster.places import Place, Surroundings
from pipeline.cluster.survey import Surveyed, survey
from pipeline.cluster.tasks import Finished, Task, WorkerKilled

__all__ = [
    "Connection",
    "Finished",
    "LocalWorkers",
    "Place",
    "Surroundings",
    "Surveyed",
    "Task",
    "WorkerKilled",
    "connected",
    "run_tasks",
    "survey",
]
