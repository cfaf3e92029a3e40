"""Data, networks and code are the same in every process, or the run is refused in one sentence."""

import importlib
import sys

import pytest
import torch

from tests.helpers.problems import problem_of
from workers.execution.worker import Worker, WorkerContext
from workers.problems.data_sets import load_dataset
from workers.problems.evaluation import Evaluation
from workers.problems.reproducibility import check_builder, check_identity, load_twice
from workers.problems.user_code import BadReference, source_fingerprint
from workers.tasks.minimum_settings import MinimumSettings
from workers.tasks.minimum_tasks import TrainMinimum
from workers.tasks.specs import DataSpec

DATA = {"name": "digits", "subset": 40}
HEAD = "import random\nimport numpy as np\nimport torch\nfrom torch import nn\n"
NETWORK = "def build(input_shape, classes):\n    {before}\n    net = nn.Sequential(nn.Flatten(), "
NETWORK += "nn.Linear(64, classes))\n    {after}\n    return net\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes modules of a user's, and forgets them where they have been imported before."""
    monkeypatch.syspath_prepend(tmp_path)
    names = set()

    def put(name, text):
        file = tmp_path / f"{name.replace('.', '/')}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        names.add(name)
        for known in names:
            sys.modules.pop(known, None)
        importlib.invalidate_caches()

    yield put
    for name in names:
        sys.modules.pop(name, None)


def builder(write, before="pass", after="pass"):
    write("ournet", HEAD + NETWORK.format(before=before, after=after))
    return problem_of({"name": "ournet:build"}, DATA)


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ("np.random.rand(20, 3)", True),
        ("torch.rand(20, 3)", True),
        ("np.random.default_rng(0).random((20, 3))", False),
        ("torch.rand(20, 3, generator=torch.Generator().manual_seed(0))", False),
    ],
)
def test_data_that_differ_between_two_loads(write, body, refused):
    """Part B, 3: a load() without a seed would give every worker its own data."""
    text = f"def load():\n    x = {body}\n    y = np.arange(20) % 2\n    return x, y, x, y\n"
    write("ourdata", HEAD + text)
    spec = DataSpec("ourdata:load")
    if refused:
        with pytest.raises(BadReference, match="returns other data when it is called again"):
            load_twice(spec)
    else:
        assert load_twice(spec).input_shape == (3,)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("torch.manual_seed(42)", "pass", "the same initial weights for every seed"),
        ("pass", "nn.init.zeros_(net[1].weight); nn.init.zeros_(net[1].bias)", "for every seed"),
        ("pass", "net[1].weight.data = torch.tensor(R.random((10, 64))).float()", "called again"),
    ],
)
def test_builders_that_do_not_draw_from_the_seed(write, before, after, says):
    """Part B, 1c: a builder that seeds itself gives equal minima; one that lives on, other losses."""
    problem = builder(write, before, after)
    if "R." in after:
        write(
            "ournet",
            HEAD + "R = np.random.default_rng()\n" + NETWORK.format(before=before, after=after),
        )
    data = load_dataset(problem.data)
    with pytest.raises(BadReference, match=says):
        check_builder(problem, data, trains=True)


@pytest.mark.parametrize(
    "after",
    [
        "pass",
        "net[1].weight.data = torch.tensor(np.random.rand(10, 64)).float()",
        "net[1].bias.data.fill_(random.random())",
    ],
)
def test_builders_that_draw_from_any_global_generator(write, after):
    """torch, numpy and random are seeded for the builder, and go on as before afterwards."""
    problem = builder(write, after=after)
    state = torch.random.get_rng_state()
    check_builder(problem, load_dataset(problem.data), trains=True)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_equal_weights_do_not_matter_where_nothing_is_trained(write):
    """Minima from checkpoints do not start from the builder's weights."""
    problem = builder(write, before="torch.manual_seed(42)")
    check_builder(problem, load_dataset(problem.data), trains=False)


@pytest.mark.parametrize(
    ("statement", "use"),
    [
        ("import ourlayers", "ourlayers.width()"),
        ("from ourlayers import width", "width()"),
        ("from ourpackage.inner import width", "width()"),
        ("from ourpackage import inner", "inner.width()"),
    ],
)
def test_the_fingerprint_covers_the_users_other_modules(write, statement, use):
    """Part B, 3: code that the user's module imports is part of the network, wherever it is imported."""
    seen = []
    for width in (5, 6, 5):
        write("ourpackage.__init__", "")
        write("ourpackage.inner", f"def width():\n    return {width}\n")
        write("ourlayers", "from ourpackage.inner import width\n")
        write("ournet", f"def build():\n    {statement}\n    return {use}\n")
        seen.append(source_fingerprint("ournet:build"))
    assert seen[0] == seen[2] != seen[1]


def test_installed_packages_are_no_part_of_the_fingerprint(write):
    """numpy and torch do not make the code another one: the fingerprint is that of the module alone."""
    import hashlib

    write("ournet", HEAD + "def build():\n    return 1\n")
    alone = hashlib.sha256((HEAD + "def build():\n    return 1\n").encode()).hexdigest()
    assert source_fingerprint("ournet:build") == alone


def test_a_worker_compares_data_and_code(write, tmp_path):
    """Part B, 3: edited code is not run under the key of the old, and other data are not taken either."""
    problem = builder(write)
    data = load_dataset(problem.data)
    check_identity(problem, data)
    with pytest.raises(BadReference, match="other data in this worker"):
        check_identity(problem_of({"name": "ournet:build"}, {**DATA, "subset": 39}), data)
    builder(write, after="net[1].bias.data.zero_()")
    with pytest.raises(BadReference, match=r"the code of network\.name 'ournet:build' has changed"):
        check_identity(problem, data)
    worker = Worker(WorkerContext(str(tmp_path / "run"), 1, Evaluation()), "w")
    (result,) = worker.run([TrainMinimum(problem, MinimumSettings(epochs=1), 0, 0)])
    assert "has changed since the run was planned" in result.reason
    assert not list((tmp_path / "run").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("forward", "says"),
    [
        ("return self.inner(x.flatten(1)).detach()", "PyTorch cannot differentiate"),
        ("return torch.dropout(self.inner(x.flatten(1)), 0.5, True)", "draws random numbers"),
        ("return self.other(x.flatten(1))", "copy of it"),
    ],
)
def test_losses_that_are_no_function_of_the_parameters(write, forward, says):
    """Part B, 12: a cut graph, dropout, and parameters that are hidden from PyTorch."""
    from workers.problems.loaded_problem import load_problem

    lines = [
        "class Net(nn.Module):",
        "    def __init__(self):",
        "        super().__init__()",
        "        self.inner = nn.Linear(64, 10)",
        "        inner = self.inner",
        "        self.other = lambda x: inner(x)",
        "    def forward(self, x):",
        f"        {forward}",
        "def build():",
        "    return Net()",
    ]
    write("ournet", HEAD + "\n".join(lines) + "\n")
    with pytest.raises(BadReference, match=says):
        load_problem(problem_of({"name": "ournet:build"}, DATA), Evaluation())
