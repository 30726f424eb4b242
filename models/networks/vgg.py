"""The convolutions of VGG-16, with torchvision's parameter names so that its weight files load."""

from torch import Tensor, nn

_WIDTHS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class VGG16(nn.Module):
    """conv1_1 to conv5_3 with the four poolings between the levels; no pool5, no classifier."""

    def __init__(self, *, in_channels: int = 3, bn: bool = False) -> None:
        """Build the encoder.

        :param in_channels: channels of the image.
        :param bn: BatchNorm after each convolution (torchvision's vgg16_bn).
        """
        super().__init__()
        layers: list[nn.Module] = []
        # Where in `features` each level ends: after its last ReLU, before the pooling.
        self.ends: list[int] = []
        channels = in_channels
        for width, convolutions in _WIDTHS:
            if layers:
                layers.append(nn.MaxPool2d(2))
            for _ in range(convolutions):
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                layers.extend([nn.BatchNorm2d(width)] if bn else [])
                layers.append(nn.ReLU(inplace=True))
                channels = width
            self.ends.append(len(layers))
        self.features = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """N x `in_channels` x H x W -> N x 512 x H/16 x W/16."""
        features: Tensor = self.features(x)
        return features

    def levels(self, x: Tensor, count: int) -> list[Tensor]:
        """Compute the features after the last ReLU of the first `count` levels, the finest first.

        :param x: N x `in_channels` x H x W.
        :return: for level k (from 0) N x C_k x H/2^k x W/2^k.
        """
        outputs, start = [], 0
        for end in self.ends[:count]:
            x = self.features[start:end](x)
            outputs.append(x)
            start = end
        return outputs
