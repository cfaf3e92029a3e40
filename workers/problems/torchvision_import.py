"""torchvision's data sets and networks, also where its compiled operators cannot be loaded.

The wheel of torchvision beside a CPU build of torch may hold operators for CUDA only. Importing it then
stops at `operator torchvision::nms does not exist`, although data sets and classifiers need no operator.
Declaring the two that the import looks for is enough; on a build that has them nothing is declared.
"""

import torch

_library: torch.library.Library | None = None  # the declarations live as long as this object

try:
    from torchvision import __version__, datasets, models
except RuntimeError as error:
    if "does not exist" not in str(error):
        raise
    _library = torch.library.Library("torchvision", "DEF")
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import __version__, datasets, models

version: str = __version__

__all__ = ["datasets", "models", "version"]
