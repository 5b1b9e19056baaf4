"""Log a run to an MLflow tracking server or database."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional, TypeVar

import numpy as np

from ..core.arguments import check_text
from ..core.tracker import TrackedRun
from ._client_tracker import ClientTracker, SafeNames, as_numbers, cut
from ._run_config import flat
from ._tracker_callback import TrackerCallback

__all__ = ["MLflowLogger"]

_FORBIDDEN = r"[^\w\-. /]|(?<=/)/|^/|/$|(?<![^/])\.+(?![^/])"  # in names: also empty parts of a path, and `..`
_LONGEST_NAME, _LONGEST_PARAM, _MOST_PARAMS, _MOST_METRICS = 250, 500, 100, 1000
_STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
_T = TypeVar("_T")


class MLflowLogger(TrackerCallback):
    """Log a run to MLflow.

    What is logged and when is described in `TrackerLogger`. Hyper-parameters are MLflow's params, with names such as
    `optimizer.class`; a param longer than 500 characters is cut, and the artifact `texts/config.txt` has it in full.
    Tables and texts are artifacts in `texts`, and figures in `figures`. As MLflow has no histograms, the minimum, mean,
    standard deviation and maximum are logged instead.

    The logger creates a run of its own, so an active run of `mlflow.start_run` and autologging are not affected. When
    the run is closed, its status is `FINISHED`, `KILLED` if a later run may continue it, or `FAILED`. A resumed run
    continues it. MLflow would store duplicates, so the logger leaves out values that MLflow already has.

    Needs the client of MLflow (`pip install "ms-callbacks[mlflow]"`, which installs the small `mlflow-skinny`).

    Args:
        experiment_name: the experiment; it is created if it does not exist. Default: "ms_callbacks".
        tracking_uri: the server or database, such as "http://localhost:5000" or "sqlite:///mlflow.db". Default: None,
            what MLflow is configured for (the variable `MLFLOW_TRACKING_URI`).
        run_name: a name for the run. Default: None, the class of the network and the time.
        every_n_steps: the interval of the values of steps, in steps, as in `TrackerLogger`. Default: 50.
        config: your own hyper-parameters, by name. Default: None.
        histograms: the interval, in epochs, at which the distribution of each trained parameter is logged. Default:
            None, never.
        figures: when to draw and log figures: "end", "epoch" or `None`. Default: "end".
        timeout: how many seconds to wait for MLflow, once when it starts, and once when it is closed. Default: 30.0.

    Attributes:
        experiment (mlflow.MlflowClient | None): the client during a run, for your own values: pass it `id_`.
        id_ (str | None): the id of MLflow's run; `None` before it starts.
        lost_ (int): how many values of the last run did not reach MLflow.

    Raises:
        TypeError, ValueError: an argument is not as described.
        ImportError: before the first step: MLflow is not installed.
        RuntimeError: before the first step: MLflow cannot be reached, or refuses the run.

    Example:
        >>> uri = "sqlite:///" + folder + "/mlflow.db"
        >>> logger = MLflowLogger("lenet", tracking_uri=uri, every_n_steps=2)
        >>> model.train(1, train_dataset, callbacks=[logger])
        >>> from mlflow import MlflowClient
        >>> MlflowClient(uri).get_run(logger.id_).info.status
        'FINISHED'
    """

    _package = _extra = "mlflow"

    def __init__(
        self,
        experiment_name: str = "ms_callbacks",
        *,
        tracking_uri: Optional[str] = None,
        run_name: Optional[str] = None,
        every_n_steps: int = 50,
        config: Optional[Mapping[str, Any]] = None,
        histograms: Optional[int] = None,
        figures: Optional[str] = "end",
        timeout: float = 30.0,
    ) -> None:
        self.experiment_name = check_text("MLflowLogger", "experiment_name", experiment_name)
        self.tracking_uri = None if tracking_uri is None else check_text("MLflowLogger", "tracking_uri", tracking_uri)
        self.run_name = None if run_name is None else check_text("MLflowLogger", "run_name", run_name)
        tracker = _MLflow(experiment_name, tracking_uri, run_name)
        super().__init__(tracker, every_n_steps, config, histograms, figures, timeout)

    @property
    def experiment(self) -> Any:
        """The client during a run."""
        return self.tracker.client  # type: ignore[attr-defined]


class _MLflow(ClientTracker):
    """Calls MLflow's client with the id of one run."""

    def __init__(self, experiment_name: str, tracking_uri: Optional[str], run_name: Optional[str]) -> None:
        self.experiment_name, self.tracking_uri, self.run_name = experiment_name, tracking_uri, run_name

    def start(self, run: TrackedRun) -> str:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._stored: Optional[dict[str, set[int]]] = None if run.id is None else {}  # steps that it has, by name
        self._names, self._id = SafeNames(_FORBIDDEN, _LONGEST_NAME), ""
        self.client = client = MlflowClient(self.tracking_uri)
        if run.id is None:
            self._id = client.create_run(self._experiment_id(client), run_name=self.run_name or run.name).info.run_id
        else:
            client.update_run(run.id, status="RUNNING")
            self._id = run.id
        known = {} if run.id is None else client.get_run(run.id).data.params  # a param cannot be changed
        names = SafeNames(_FORBIDDEN, _LONGEST_NAME)
        params = {names[name]: cut(str(value), _LONGEST_PARAM) for name, value in flat(run.config).items()}
        new = [Param(name, value) for name, value in params.items() if name not in known]
        for some in _in_parts(new, _MOST_PARAMS):
            client.log_batch(self._id, params=some)
        return self._id

    def _experiment_id(self, client: Any) -> str:
        found = client.get_experiment_by_name(self.experiment_name)
        if found is None:
            try:
                created: str = client.create_experiment(self.experiment_name)
                return created
            except Exception:  # another process may have been faster
                found = client.get_experiment_by_name(self.experiment_name)
                if found is None:
                    raise
        experiment_id: str = found.experiment_id
        return experiment_id

    def log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        named = {self._names[name]: value for name, value in values.items()}
        metrics = [Metric(name, value, now, step) for name, value in named.items() if not self._has(name, step)]
        for some in _in_parts(metrics, _MOST_METRICS):
            self.client.log_batch(self._id, metrics=some)

    def _has(self, name: str, step: int) -> bool:
        """Return whether the run that is continued already has a value at a step."""
        if self._stored is None:
            return False
        if name not in self._stored:
            self._stored[name] = {metric.step for metric in self.client.get_metric_history(self._id, name)}
        return step in self._stored[name]

    def log_text(self, name: str, text: str, step: int) -> None:
        self.client.log_text(self._id, text, f"{name}.txt")

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        self.client.log_figure(self._id, figure, f"{name}_{step}.png")

    def log_histogram(self, name: str, values: np.ndarray[Any, Any], step: int) -> None:
        self.log(as_numbers(name, values), step)

    def flush(self) -> None:
        pass  # each call is stored when it returns

    def close(self, status: str) -> None:
        client, self.client = self.client, None
        if client is not None and self._id:
            client.set_terminated(self._id, _STATUS[status])


def _in_parts(items: Sequence[_T], most: int) -> Iterator[Sequence[_T]]:
    for first in range(0, len(items), most):
        yield items[first : first + most]
