"""The character transformer and its text: counts, causality, and the road of any other network."""

from dataclasses import replace

import pytest
import torch

from topo_core.objectives.protocol import Step
from workers.problems.data_sets import load_dataset
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem
from workers.problems.networks import build, count_parameters
from workers.problems.text import alphabet, descriptions, windows
from workers.tasks.problem import Problem
from workers.tasks.specs import DataSpec, NetworkSpec

TEXT = DataSpec.parse({"name": "text", "context": 12, "subset": 100})
NETWORK = NetworkSpec.parse({"name": "transformer", "width": 8, "heads": 2, "layers": 2})


def test_parameter_count():
    """Embeddings, per block two norms, attention and a perceptron four times as wide, then the output."""
    characters, context, width, layers = 66, 32, 32, 2
    norm, square = 2 * width, width * width
    block = 2 * norm + (4 * square + 4 * width) + (8 * square + 5 * width)
    expected = (characters + context) * width + layers * block + norm
    expected += (width + 1) * characters
    module = build(NetworkSpec("transformer"), (context,), characters)
    assert count_parameters(module) == expected


def test_attention_is_causal():
    """The output at a position does not depend on the characters after it."""
    module = build(NETWORK, (12,), 20).double()
    first = torch.randint(20, (1, 12), generator=torch.Generator().manual_seed(0))
    second = first.clone()
    second[0, 7:] = (first[0, 7:] + 1) % 20

    def inside(tokens):
        return module.blocks(module.characters(tokens) + module.positions)

    torch.testing.assert_close(inside(first)[:, :7], inside(second)[:, :7], rtol=0, atol=0)
    assert not torch.allclose(inside(first)[:, 7:], inside(second)[:, 7:])


def test_windows_are_the_text():
    """Each window and its next character are consecutive in the text; none reaches across the cut."""
    text = "abcdefghijklmnopqrst"
    train, test = windows(text, 3)
    names = alphabet(text)

    def spelled(part):
        rows = torch.cat([part.tokens, part.following[:, None]], dim=1)
        return ["".join(names[c] for c in row) for row in rows.tolist()]

    assert spelled(train) == [text[i : i + 4] for i in range(13)]
    assert spelled(test) == ["qrst"]


def test_every_token_has_a_target():
    """The targets of a window are the window one character later, and the loss is the mean over them."""
    train, _ = windows("abcdefghijklmnopqrst", 3, every_token=True)
    assert torch.equal(train.following[:, :-1], train.tokens[:, 1:])
    data = DataSpec.parse({"name": "text", "context": 12, "subset": 100, "every_token": True})
    network = NetworkSpec.parse({**NETWORK.canonical(), "every_token": True})
    loaded = load_problem(Problem(network, data, "", ""), Evaluation())
    assert loaded.data.train_targets.shape == (100, 12)
    point = loaded.initial_point(3)
    (loss,) = loaded.objective(100).losses(point[None])
    module = build(network, (12,), loaded.data.classes)
    module.load_state_dict(loaded.state_dict(point))
    logits = module(loaded.data.train_inputs)
    assert logits.shape == (100, 12, loaded.data.classes)
    wanted = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), loaded.data.train_targets.flatten()
    )
    assert float(loss) == pytest.approx(float(wanted.detach()), rel=1e-5)


def test_the_shipped_text():
    """The text is prose of tens of thousands of characters over a small alphabet, and data as any other."""
    text = descriptions()
    assert len(text) > 20_000 and len(alphabet(text)) < 100
    assert text.count(" the ") > 200
    data = load_dataset(TEXT)
    assert (data.train_inputs.shape, data.train_inputs.dtype) == ((100, 12), torch.int64)
    assert data.classes == len(alphabet(text))


def test_both_strategies_agree():
    """Gradients of three transformers at once are those of each by its own backward pass, in float64."""
    loaded = load_problem(Problem(NETWORK, TEXT, "data", "network"), Evaluation())
    loaded.module.double()
    points = torch.stack([loaded.initial_point(seed).double() for seed in range(3)])
    found = {}
    for strategy in ("literal", "functional"):
        objective = replace(loaded, evaluation=Evaluation(strategy=strategy)).objective(32)
        found[strategy] = objective.gradients(points, Step(0, 0, 1))
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
