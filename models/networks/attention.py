"""Attention that several networks share."""

from torch import Tensor, nn

from models.networks.blocks import full_precision


class PositionAttention(nn.Module):
    """Self-attention between all positions of a feature map, without scaling (Fu et al., DANet, 2019)."""

    def __init__(self, channels: int, key_channels: int) -> None:
        """Channels of the features and of queries and keys."""
        super().__init__()
        self.query = nn.Conv2d(channels, key_channels, 1)
        self.key = nn.Conv2d(channels, key_channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """out_i = sum_j S_ij v_j, S = softmax over keys j of (q_i m_i)^T (k_j m_j).

        :param x: N x C x H x W.
        :param mask: N x 1 x H x W, multiplies queries and keys; None: ones.
        :return: N x C x H x W.
        """
        q, k, v = self.query(x), self.key(x), self.value(x)
        if mask is not None:
            q, k = q * mask, k * mask
        s = full_precision(q.flatten(2).transpose(1, 2) @ k.flatten(2)).softmax(dim=2).to(v.dtype)
        out: Tensor = v.flatten(2) @ s.transpose(1, 2)
        return out.view_as(x)
