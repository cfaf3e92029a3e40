"""Results of rounded gradients and of full ones stay apart."""

from tests.helpers.command import toscore
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store


def test_another_precision_is_another_evaluation(tmp_path):
    """A run that is continued with another precision computes in the new one."""
    file = tmp_path / "apart.yaml"
    file.write_text(
        f"name: apart\nstore: {tmp_path}\ndata: {{name: digits, subset: 100}}\n"
        "network: {name: fc, hidden: [4]}\nminima: {count: 2, epochs: 1}\n"
        "paths: {epochs: 1, points: 3, start: line}\n"
    )
    assert toscore("run", file, "--in-process", "-q").code == 0
    store = Store(open_objects(str(tmp_path / "apart")))
    begun = store.latest_config()
    assert begun["evaluation"]["precision"] == "float32"
    (written,) = (tmp_path / "apart").rglob("config-*.json")
    written.unlink()
    store = Store(open_objects(str(tmp_path / "apart")))
    rounded = {**begun["evaluation"], "precision": "tf32", "threads": 7}
    store.publish_config({**begun, "evaluation": rounded}, term=1)
    assert toscore("run", file, "--in-process", "-q").code == 0
    assert (
        Store(open_objects(str(tmp_path / "apart"))).latest_config()["evaluation"]
        == begun["evaluation"]
    )
