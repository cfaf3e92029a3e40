"""How precisely a GPU multiplies while it computes gradients.

``float32``  every product in full; the default.
``tf32``     inputs of products and convolutions with 10 bits after the point, sums in float32.
``bf16``     inputs with 7 bits; only for strategies that leave the arithmetic to autograd.

Rounded gradients send a path another way, as other minibatches would: each height is still the true one of
the path that was found, since losses are always measured in full, but paths may end higher. A CPU computes
in full whatever is asked for, so it refuses the others.
"""

from typing import Literal

Precision = Literal["float32", "tf32", "bf16"]
