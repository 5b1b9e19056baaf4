"""What MLflow's client finds in its database after a run, a resume and an exception."""

from __future__ import annotations

import math

import pytest
from training import FailAt, Interrupt, Script, dataset, make_model, valid_dataset

from ms_callbacks import ConfusionMatrix, MLflowLogger, TrainingState, Validate
from ms_callbacks.core.mindspore_compat import CAN_BEGIN_WITHIN
from ms_callbacks.core.tracker import TrackedRun
from ms_callbacks.monitoring._client_tracker import SafeNames, cut
from ms_callbacks.monitoring.mlflow_logger import _FORBIDDEN, _MLflow

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("sqlalchemy")


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """A database of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def client(uri, tmp_path, monkeypatch):
    """MLflow's own, and a working directory for artifacts."""
    monkeypatch.chdir(tmp_path)
    return mlflow.MlflowClient(uri)


def metrics(client, run_id):
    """{name: [(step, value)]} of a run."""
    names = client.get_run(run_id).data.metrics
    return {name: [(each.step, each.value) for each in client.get_metric_history(run_id, name)] for name in names}


def artifacts(client, run_id):
    folders = [each.path for each in client.list_artifacts(run_id)]
    return sorted(each.path for folder in folders for each in client.list_artifacts(run_id, folder))


def test_mlflow_has_what_a_run_has_logged(client, uri, tmp_path):
    """Metrics, params, texts, figures, and a distribution in numbers."""
    client.create_experiment("lenet", artifact_location=str(tmp_path / "artifacts"))
    model = make_model()
    logger = MLflowLogger("lenet", tracking_uri=uri, run_name="first", every_n_steps=2, histograms=1)
    model.train(1, dataset(), callbacks=[logger, Validate(model, valid_dataset()), ConfusionMatrix(verbose=0)])
    run = client.get_run(logger.id_)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "first")
    found = metrics(client, logger.id_)
    assert [step for step, _ in found["train/loss"]] == [2, 4]
    assert [step for step, _ in found["epoch/loss"]] == [step for step, _ in found["eval/acc"]] == [4]
    assert found["weights/head.weight/std"][0][1] > 0
    assert run.data.params["optimizer.class"] == "Adam"
    assert run.data.params["parameters.total"] == "78"
    assert artifacts(client, logger.id_) == [
        "figures/confusion_matrix_4.png",
        "texts/config.txt",
        "texts/confusion_matrix.txt",
    ]


@pytest.mark.skipif(not CAN_BEGIN_WITHIN, reason="this MindSpore cannot begin within an epoch")
def test_a_resume_stores_no_step_twice_and_none_is_missing(client, uri, tmp_path):
    """MLflow itself stores duplicates; a changed param is left as it was, and the run is open until it ends."""
    outcomes = {}
    for name, at in (("whole", None), ("resumed", 7)):
        state = TrainingState(tmp_path / name, every_n_steps=3)
        logger = MLflowLogger(name, tracking_uri=uri, every_n_steps=1)
        if at is None:
            make_model().train(3, dataset(), callbacks=[logger, state])
        else:
            with pytest.raises(InterruptedError):
                make_model().train(3, dataset(), callbacks=[logger, state, FailAt(at)])
            assert client.get_run(logger.id_).info.status == "FAILED"
            assert client.get_run(logger.id_).data.params["epochs"] == "3"
            model, data, state = make_model(), dataset(), TrainingState(tmp_path / name)
            first, logger = logger.id_, MLflowLogger(name, tracking_uri=uri, every_n_steps=1, config={"note": "again"})
            begun = state.resume(model, data, epochs=3)
            model.train(3, data, callbacks=[logger, state], initial_epoch=begun)
            assert logger.id_ == first
            assert client.get_run(first).data.params["note"] == "again"
        outcomes[name] = metrics(client, logger.id_)
        assert client.get_run(logger.id_).info.status == "FINISHED"
    for found in outcomes.values():
        assert [step for step, _ in found.pop("epoch/seconds")] == [4, 8, 12]
        assert [step for step, _ in found.pop("epoch/samples_per_second")] == [4, 8, 12]
    assert outcomes["resumed"] == outcomes["whole"]
    assert [step for step, _ in outcomes["whole"]["train/loss"]] == list(range(1, 13))


def test_no_run_is_left_running(client, uri):
    """An exception fails it, and an interruption kills it; a run of the user's own is not touched."""
    mlflow.set_tracking_uri(uri)
    with mlflow.start_run() as own:
        logger = MLflowLogger(tracking_uri=uri)
        with pytest.raises(InterruptedError):
            Script().run([logger, FailAt(1)], [None])
        assert client.get_run(logger.id_).info.status == "FAILED"
        first = logger.id_
        Script().run([logger, Interrupt(1)], [None], steps=2)
        assert client.get_run(logger.id_).info.status == "KILLED"
        assert mlflow.active_run().info.run_id == own.info.run_id
    assert len({own.info.run_id, first, logger.id_}) == 3
    assert client.get_run(own.info.run_id).data.metrics == {}


def test_long_and_strange_values_never_end_a_run(client, uri):
    """MLflow refuses long params, names with certain characters, and paths that are not plain."""
    config = {
        "long": "x" * 20_000,
        "none": None,
        "nested": {"deep": {"list": [1, None]}},
        "a:b*c?": 1,
        "k" * 400: 2,
        **{f"many{index}": index for index in range(250)},
    }
    logger = MLflowLogger(tracking_uri=uri, every_n_steps=1, config=config)
    Script().run([logger], [{"acc@5 [%]": 0.5, "../up": 1.0, "a//b": 2.0, "/c/": 3.0}], [[math.nan, math.inf]], steps=2)
    run = client.get_run(logger.id_)
    params = run.data.params
    assert (len(params["long"]), params["long"][-9:]) == (500, "... (cut)")
    assert (params["none"], params["nested.deep.list"], params["a_b_c_"]) == ("None", "[1, None]", "1")
    assert [len(name) for name in params if name.startswith("kk")] == [250]
    assert sum(name.startswith("many") for name in params) == 250
    found = metrics(client, logger.id_)
    names = {"eval/acc_5 ___", "eval/_/up", "eval/a/_b", "eval/_c_"}
    assert {name for name in found if name.startswith("eval")} == names
    assert math.isnan(found["train/loss"][0][1])
    assert logger.lost_ == 0


@pytest.mark.parametrize(
    "name", ["acc", "a/b", "a//b", "/a", "a/", "..", "a/../b", ".", "", "a:b", "é", "a b-c_d.e", "//", "a/./b"]
)
def test_every_name_becomes_one_that_mlflow_accepts(name):
    """Names that it accepts stay as they are, at least those of letters, digits and `_-./ `."""
    from mlflow.utils.validation import _validate_metric_name

    made = SafeNames(_FORBIDDEN, 250)[name]
    _validate_metric_name(made)
    if name in ("acc", "a/b", "a b-c_d.e"):
        assert made == name


def test_two_names_never_become_one():
    """The second gets a number, however long it is; the same name stays the same."""
    names = SafeNames(_FORBIDDEN, 8)
    made = [names[name] for name in ("a@b", "a#b", "a_b", "longer name", "longer names", "a#b")]
    assert made == ["a_b", "a_b_2", "a_b_3", "longer n", "longer_2", "a_b_2"]


def test_a_text_is_cut_to_its_limit():
    """With a mark; a shorter one is left alone."""
    assert cut("x" * 30, 20) == "x" * 11 + "... (cut)"
    assert cut("x" * 20, 20) == "x" * 20


def test_a_server_that_is_not_there_refuses_the_run(monkeypatch):
    """Before the first step; MLflow itself would try for minutes."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    logger = MLflowLogger(tracking_uri="http://127.0.0.1:9", timeout=20.0)
    with pytest.raises(RuntimeError, match="MLflowLogger: the tracker could not be started: "):
        Script().run([logger], [None])


def test_a_run_that_was_deleted_refuses_to_be_continued(client, uri):
    """By its id."""
    with pytest.raises(mlflow.exceptions.MlflowException, match="not found"):
        _MLflow("e", uri, None).start(TrackedRun("run", {}, id="0" * 32, step=3))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"run_name": ""}, ValueError, "run_name must not be empty"),
        ({"experiment_name": ""}, ValueError, "experiment_name must not be empty"),
        ({"tracking_uri": 3}, TypeError, "tracking_uri must be a string"),
        ({"run_name": 3}, TypeError, "run_name must be a string"),
    ],
)
def test_bad_input(arguments, error, message):
    """At once."""
    with pytest.raises(error, match=f"MLflowLogger: {message}"):
        MLflowLogger(**arguments)
