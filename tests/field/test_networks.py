"""Networks with other outputs and inputs than one tensor: they run with the numbers of plain PyTorch."""

import sys
import threading
import types
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.utils.checkpoint import checkpoint

from tests.helpers.command import toscore
from tests.helpers.problems import problem_of
from workers.execution.strategy_probe import choose_evaluation
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem
from workers.problems.user_code import BadReference
from workers.tasks.path_tasks import PathTaskSettings
from workers.tasks.specs import LossSpec

WORDS, LENGTH, CLASSES = 11, 5, 3


@dataclass
class ModelOutput:
    """As libraries of transformers return it."""

    loss: torch.Tensor | None
    logits: torch.Tensor
    hidden: torch.Tensor


class Mapping(OrderedDict):
    """As Hugging Face's ModelOutput."""


Named = namedtuple("Named", "features logits")


class Plain:
    def __init__(self, **values):
        self.__dict__.update(values)


class Network(nn.Module):
    """Linear, with its outputs in some form."""

    def __init__(self, form, outputs=CLASSES):
        super().__init__()
        self.form, self.first, self.last = form, nn.Linear(4, 6), nn.Linear(6, outputs)

    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        return self.form(hidden, self.last(hidden))


FORMS = {
    "dataclass": (lambda h, y: ModelOutput(None, y, h), "of the ModelOutput that it returns, logits"),
    "mapping": (lambda h, y: Mapping([("logits", y), ("states", h)]), "of the Mapping that it returns, l"),
    "dict": (lambda h, y: {"out": y, "aux": h}, "of the dict that it returns, out"),
    "one entry": (lambda h, y: {"scores": y, "scale": 3.0}, "scores"),
    "named tuple": (lambda h, y: Named(features=h, logits=y), "logits"),
    "object": (lambda h, y: Plain(logits=y, size=2), "logits"),
    "tuple": (lambda h, y: (y, h), "of the tuple that it returns, element 0"),
    "loss first": (lambda h, y: (y.mean(), y), "element 1"),
    "no loss": (lambda h, y: (y, None), "element 0"),
    "list": (lambda h, y: [y], "of the list that it returns, element 0"),
}  # fmt: skip


class Tagger(nn.Module):
    """Token ids with a mask to the mean of the tokens that count; keywords as in Hugging Face."""

    def __init__(self, outputs=CLASSES):
        super().__init__()
        self.words, self.last = nn.Embedding(WORDS, 4), nn.Linear(4, outputs)

    def forward(self, input_ids, attention_mask=None):
        assert input_ids.dtype is torch.int64
        weights = attention_mask.to(self.last.weight.dtype)[..., None]
        mean = (self.words(input_ids) * weights).sum(1) / weights.sum(1)
        return ModelOutput(None, self.last(mean), mean)


class Mixed(nn.Module):
    """An image, numbers of a table, and a category."""

    def __init__(self):
        super().__init__()
        self.kinds, self.last = nn.Embedding(WORDS, 4), nn.Linear(4 + 9 + 2, CLASSES)

    def forward(self, image, table, kind, use):
        assert image.shape[1:] == (1, 3, 3)
        assert use.dtype is torch.bool
        seen = torch.where(use[:, None], self.kinds(kind), torch.zeros(()).to(table))
        return self.last(torch.cat([image.flatten(1), table, seen], 1))


def draw():
    return torch.Generator().manual_seed(0)


def tokens(n=30):
    generator = draw()
    ids = torch.randint(WORDS, (n, LENGTH), generator=generator)
    mask = torch.rand(n, LENGTH, generator=generator) < 0.7
    mask[:, 0] = True
    return {"input_ids": ids, "attention_mask": mask.long()}


def mixed(n=30):
    generator = draw()
    return (
        torch.randn(n, 1, 3, 3, generator=generator),
        torch.randn(n, 2, generator=generator),
        torch.randint(WORDS, (n,), generator=generator),
        torch.rand(n, generator=generator) < 0.5,
    )


def vectors(n=30):
    return torch.randn(n, 4, generator=draw())


def labels(n=30, classes=CLASSES):
    return torch.arange(n) % classes


@pytest.fixture
def users(monkeypatch):
    """A module with a network and data; their problem."""
    module = types.ModuleType("fieldnets")
    monkeypatch.setitem(sys.modules, "fieldnets", module)

    def make(build, inputs, targets, loss=None, **options):
        module.build, module.load = build, lambda: (inputs, targets)
        return problem_of({"name": "fieldnets:build"}, {"name": "fieldnets:load", **options}, loss)

    return make


def runs_as(problem, own, inputs, targets, expected, logits):
    """Losses and gradients at a point are those of the network called directly, with any strategy."""
    loaded = load_problem(problem, Evaluation())
    point = loaded.initial_point(1)
    own.load_state_dict(loaded.state_dict(point), strict=True)
    outputs = own(**inputs) if isinstance(inputs, dict) else own(*inputs)
    value = expected(logits(outputs), targets)
    value.backward()
    gradient = torch.cat([p.grad.flatten() for p in own.parameters()])
    objective = loaded.objective(len(targets))
    assert loaded.measure(point).loss == pytest.approx(value.item(), rel=1e-6)
    assert torch.allclose(objective.full_gradient(point), gradient, atol=1e-6)
    choice = choose_evaluation(loaded, PathTaskSettings(points=4, batch_size=10))
    assert choice.evaluation.strategy in ("literal", "functional")
    return loaded


@pytest.mark.parametrize("form", FORMS)
def test_outputs_of_other_forms(users, form):
    """Of a mapping, a dataclass, an object or a tuple the logits go into the loss, and a note says so."""
    make, note = FORMS[form]
    x, y = vectors(), labels()
    problem = users(lambda: Network(make), x, y)
    plain = Network(lambda _, outputs: outputs)
    loaded = runs_as(problem, plain, (x,), y, cross_entropy, lambda outputs: outputs)
    assert any(note in said for said in loaded.notes)


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (lambda h, y: {"a": h, "b": y}, "returns a dict with a, b: return the tensor that the loss takes"),
        (lambda h, y: (y.mean(), None), "a tuple without a tensor of 2 rows for 2 examples"),
        (lambda h, y: None, "returns a NoneType and no tensor"),
        (lambda h, y: y.mean(), r"returns \(\) for 2 examples of 3 classes"),
        (lambda h, y: y.numpy(), "returns a ndarray and no tensor"),
        (lambda h, y: {}["x"], "does not take the inputs .*'x'"),
    ],
)  # fmt: skip
def test_outputs_that_are_refused(users, form, says):
    """One sentence says what the network returns."""
    with pytest.raises(BadReference, match=says):
        load_problem(users(lambda: Network(form), vectors(), labels()), Evaluation())


def test_token_ids_with_a_mask(users):
    """Inputs by name are the keywords of the network's forward."""
    inputs, y = tokens(), labels()
    problem = users(Tagger, inputs, y)
    loaded = runs_as(problem, Tagger(), inputs, y, cross_entropy, lambda outputs: outputs.logits)
    assert loaded.data.input_shape == {"input_ids": (LENGTH,), "attention_mask": (LENGTH,)}


def test_inputs_of_several_kinds(users):
    """A tuple of an image, a table, a category and a truth value are the network's arguments, in order."""
    inputs, y = mixed(), labels()
    loaded = runs_as(
        users(Mixed, inputs, y), Mixed(), inputs, y, cross_entropy, lambda outputs: outputs
    )
    assert loaded.data.input_shape == ((1, 3, 3), (2,), (), ())


def test_builders_are_given_the_shapes(users):
    """`input_shape` of several inputs is a mapping by their names."""
    seen = []

    def build(input_shape):
        seen.append(input_shape)
        return Tagger()

    load_problem(users(build, tokens(), labels()), Evaluation())
    assert seen[0] == {"input_ids": (LENGTH,), "attention_mask": (LENGTH,)}


def test_more_outputs_than_classes(users):
    """A vocabulary that is padded to a round number, or a class that does not occur."""
    x, y = vectors(), labels()
    problem = users(lambda: Network(lambda _, outputs: outputs, 16), x, y)
    plain = Network(lambda _, outputs: outputs, 16)
    runs_as(problem, plain, (x,), y, cross_entropy, lambda outputs: outputs)


@pytest.mark.parametrize("flat", [False, True])
def test_one_logit(users, flat):
    """One output for two classes: bce takes class numbers, and cross entropy names bce."""

    def form(_, outputs):
        return outputs[:, 0] if flat else outputs

    x, y = vectors(), labels(classes=2)
    problem = users(lambda: Network(form, 1), x, y, {"name": "bce"})
    runs_as(
        problem,
        Network(form, 1),
        (x,),
        y,
        lambda outputs, targets: binary_cross_entropy_with_logits(
            outputs.flatten(), targets.float()
        ),
        lambda outputs: outputs,
    )
    with pytest.raises(
        BadReference, match=r"with one output for two classes, take loss\.name: bce"
    ):
        load_problem(users(lambda: Network(form, 1), x, y), Evaluation())


@pytest.mark.parametrize(
    ("targets", "loss", "says"),
    [
        (labels() - 1, None, r"hold the class -1; number classes from 0 \(data.labels: map does it\)"),
        (labels().double(), None, "float32 of shape .*data.labels: map"),
        (labels()[:, None], None, r"mean one token each; return \[n\], or take data.labels: map"),
        (torch.eye(CLASSES).long()[labels()], None, "look one-hot"),
        (labels() + 1, None, r"it must return \(2, 4\)"),
        (labels(classes=2), {"name": "cross_entropy", "class_weights": [1, 2]}, r"it must return \(2, 2\)"),
    ],
)  # fmt: skip
def test_targets_that_do_not_fit(users, targets, loss, says):
    """The sentence names the kin of the mistake, and what to do."""
    problem = users(lambda: Network(lambda _, outputs: outputs), vectors(), targets, loss)
    with pytest.raises(BadReference, match=says):
        load_problem(problem, Evaluation())


def _fails(outputs, targets):
    raise KeyError("weights")


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (_fails, r"fails on outputs of shape \(2, 3\) and targets of shape \(2,\): 'weights'"),
        (lambda: 0, "takes 0 positional arguments but 2 were given"),
        (torch.nn.functional.cross_entropy, "the loss function returns"),
    ],
    ids=["raises", "other arguments", "a mean"],
)
def test_a_loss_of_the_user_that_fails(users, monkeypatch, loss, says):
    """Whatever it raises, the sentence names the loss, and not the network."""
    problem = users(lambda: Network(lambda _, outputs: outputs), vectors(), labels())
    monkeypatch.setattr(sys.modules["fieldnets"], "own", loss, raising=False)
    problem = replace(problem, loss=LossSpec("fieldnets:own"))
    with pytest.raises(BadReference, match=says) as refused:
        load_problem(problem, Evaluation())
    assert str(refused.value).startswith("loss.name 'fieldnets:own'")


class Locked(torch.nn.Linear):
    """A layer with an attribute that cannot be copied."""

    def __init__(self):
        super().__init__(4, CLASSES)
        self.lock = threading.Lock()


class Counting(torch.nn.Linear):
    """A layer that counts its calls, and multiplies by their number."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls


class Reentrant(torch.nn.Sequential):
    def forward(self, x):
        return checkpoint(self[1], self[0](x), use_reentrant=True)


def leaves():
    sys.exit(3)


REFUSED_NETWORKS = {
    "a lock": (Locked, "cannot be copied .*: keep locks, open files and the like out of it"),
    "a counter": (lambda: Counting(4, CLASSES), "other outputs for the same inputs when it is called again"),
    "reentrant checkpoints": (lambda: Reentrant(nn.Linear(4, 2), nn.Linear(2, 3)), "gradient .*reentrant"),
    "weights that the forward changes": (
        lambda: nn.Sequential(nn.Embedding(9, 2, max_norm=1.0), nn.Flatten(), nn.Linear(8, 3)),
        "has max_norm in 0, which changes weights",
    ),
    "NaN": (lambda: Network(lambda _, y: (y - y.max() - 1).sqrt()), "returns NaN for the first examples"),
    "an exit": (leaves, "fails with SystemExit: 3"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED_NETWORKS)
def test_networks_that_are_refused(users, kind):
    """One sentence that names the cause; none is taken for dropout."""
    build, says = REFUSED_NETWORKS[kind]
    inputs = torch.arange(120).view(30, 4) % 9 if "weights" in kind else vectors()
    with pytest.raises(BadReference, match=says) as refused:
        load_problem(users(build, inputs, labels()), Evaluation())
    assert "dropout" not in str(refused.value)


class Constant(torch.nn.Linear):
    """A layer with a tensor that is no buffer, so that the network cannot be made float64."""

    def __init__(self):
        super().__init__(4, CLASSES)
        self.scale = torch.ones(4, 4)

    def forward(self, x):
        return super().forward(x @ self.scale)


class Cast(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x.float())


@pytest.mark.parametrize("build", [Constant, lambda: Cast(4, CLASSES)], ids=["constant", "float()"])
def test_networks_that_compute_in_float32_alone(users, tmp_path, monkeypatch, build):
    """They run, polished and judged in float32, and a note says so; every minimum of theirs was a bug."""
    users(build, vectors(), labels())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(
        'name: a\ndata: {name: "fieldnets:load"}\nnetwork: "fieldnets:build"\nloss: {name: cross_entropy, '
        "ridge: 0.1}\nminima: {count: 2, epochs: 2}\npaths: {epochs: 1, points: 4, start: line}\n"
    )
    said = toscore("run", "a.yaml", "--in-process", "--quiet")
    assert said.code == 0, said.err
    assert "does not compute in float64" in said.err


def test_class_numbers_with_gaps(users):
    """{0, 100000, 200000} would make 200,001 outputs where the data decide, and are mapped on request."""
    x, y = vectors(), labels() * 100_000
    network = {"name": "fc", "hidden": [2]}
    problem = users(None, x, y)
    with pytest.raises(BadReference, match="3 different classes with numbers up to 200000"):
        load_problem(problem_of(network, {"name": "fieldnets:load"}), Evaluation())
    mapped = load_problem(
        problem_of(network, {"name": "fieldnets:load", "labels": "map"}), Evaluation()
    )
    assert mapped.dimension == 4 * 2 + 2 + 2 * CLASSES + CLASSES
    assert problem.data.name == "fieldnets:load"


def test_no_test_set(users):
    """Losses of the test set are NaN where there is none; everything else is measured."""
    loaded = load_problem(users(lambda: Network(lambda _, y: y), vectors(), labels()), Evaluation())
    measured = loaded.measure(loaded.initial_point(0))
    assert measured.loss > 0 and 0 <= measured.accuracy <= 1
    assert (
        measured.test_loss != measured.test_loss
        and measured.test_accuracy != measured.test_accuracy
    )


def test_a_test_set_of_another_shape(users, monkeypatch):
    """Longer test sequences are measured where the network takes them, and refused elsewhere."""
    sequence = nn.Sequential
    x, y = torch.randn(12, 6, 4, generator=draw()), labels(12)
    module = sys.modules["fieldnets"]
    problem = users(lambda: sequence(nn.Flatten(), nn.Linear(24, CLASSES)), x, y)
    module.load = lambda: (x, y, x.repeat(1, 2, 1), y)
    with pytest.raises(BadReference, match=r"does not take the inputs of .*\(12, 4\)"):
        load_problem(
            problem_of({"name": "fieldnets:build"}, {"name": "fieldnets:load"}), Evaluation()
        )

    class Mean(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs.mean(1))

    module.build = lambda: Mean(4, CLASSES)
    loaded = load_problem(
        problem_of({"name": "fieldnets:build"}, {"name": "fieldnets:load"}), Evaluation()
    )
    measured = loaded.measure(loaded.initial_point(0))
    assert measured.test_loss == pytest.approx(measured.loss, rel=1e-5)
    assert problem.network.name == "fieldnets:build"


def test_lazy_layers_that_cannot_be_made(users):
    """A lazy network of token ids is made with zeros; one of several inputs has to be called first."""

    class Lazy(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.last = nn.Embedding(WORDS, 4), nn.LazyLinear(CLASSES)

        def forward(self, input_ids, attention_mask=None):
            return self.last(self.words(input_ids).flatten(1))

    load_problem(users(Lazy, tokens()["input_ids"], labels()), Evaluation())
    with pytest.raises(BadReference, match=r"has lazy layers.*call it once in your function"):
        load_problem(users(Lazy, tokens(), labels()), Evaluation())


def test_toscores_networks_take_one_input():
    """A network of toscore's own on several inputs is refused by the names of both."""
    module = types.ModuleType("fieldnets")
    module.load = lambda: (tokens(), labels())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "fieldnets", module)
        with pytest.raises(BadReference, match="takes one input, and the data have 2"):
            load_problem(problem_of({"name": "fc"}, {"name": "fieldnets:load"}), Evaluation())
