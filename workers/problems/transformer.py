"""A small transformer that predicts the next character of a text.

It consists of pre-norm blocks (Xiong et al. 2020) of causal self-attention (Vaswani et al. 2017) and a
perceptron with GELU. By default it predicts the character after a window, so that each window has one
prediction, as an image has. With `every_token` it predicts the character after each character of the window,
as in the training of language models. There is no dropout, so that the loss is a function of the parameters.
"""

import math

import torch
from torch import Tensor, nn


class CharacterTransformer(nn.Module):
    """Token ids [n, context] to logits of the characters that follow.

    Args:
        characters: size of the alphabet.
        context: characters in a window.
        width: of the residual stream; a multiple of `heads`.
        heads: of each attention.
        layers: number of blocks.
        every_token: whether logits are [n, context, characters], one row a token of the window, and not
            [n, characters], after the last token alone.
    """

    def __init__(
        self,
        characters: int,
        context: int,
        width: int,
        heads: int,
        layers: int,
        *,
        every_token: bool = False,
    ) -> None:
        super().__init__()
        self.every_token = every_token
        self.characters = nn.Embedding(characters, width)
        self.positions = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.Sequential(*(_Block(width, heads, context) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, characters)
        for table in (self.characters.weight, self.positions):
            nn.init.normal_(table, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.blocks(self.characters(tokens) + self.positions)
        logits: Tensor = self.output(self.norm(hidden if self.every_token else hidden[:, -1]))
        return logits


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = _Attention(width, heads, context)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.before_attention(x))
        after: Tensor = x + self.perceptron(self.before_perceptron(x))
        return after


class _Attention(nn.Module):
    """Causal self-attention, written with elementary operations so that `vmap` can batch it over
    parameters."""

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.heads = heads
        self.project, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        later = torch.ones(context, context, dtype=torch.bool).triu(1)
        self.register_buffer("later", later, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.project(x).chunk(3, dim=-1)
        )
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        assert isinstance(self.later, Tensor)
        weights = scores.masked_fill(self.later, -math.inf).softmax(-1)
        mixed: Tensor = self.output((weights @ value).transpose(1, 2).flatten(2))
        return mixed
