"""mindvision's `Mnist` and `lenet`, working and fast on every MindSpore from 2.0 to 2.10.

mindvision 0.1.0 imports modules that MindSpore has since merged into others, yields NumPy scalars that MindSpore
refuses with NumPy 2, and downloads from an address that no longer serves MNIST. This module imports it nevertheless,
without changing anything global:

- `lenet(num_classes=10, num_channel=1)` is mindvision's own function, unchanged: LeNet-5 for images of shape
  (n, 1, 32, 32), with 61,684 parameters. The address of its pretrained weights is dead.
- `Mnist` is a subclass of mindvision's, with the same arguments and the same samples.

Install both with `pip install "ms-callbacks[vision]"`.
"""

from ..vision._mindvision import models
from ..vision.mnist import Mnist

__all__ = ["Mnist", "lenet"]

lenet = models.lenet
