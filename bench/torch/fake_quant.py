"""Fake quantisation with learned scales (LSQ, Esser et al., 2020) as PyTorch code would write it by hand: the arithmetic of mnc's
training step. The gradient passes where the quantiser does not saturate; a scale's is sum(dy * d), d = q - x/s inside and the
limit outside (less the zero point), times 1 / sqrt(elements a scale * largest level)."""
import math

import torch


class FakeQuant(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale, zero, low, high, axis, factor):
        if scale.numel() > 1:
            shape = [1] * x.dim()
            shape[axis] = -1
            s, z = scale.reshape(shape), zero.reshape(shape) if zero.numel() > 1 else zero
        else:
            s, z = scale, zero
        levels = torch.round(x / s) + z
        kept = torch.clamp(levels, low, high)
        inside = levels == kept
        ctx.save_for_backward(x, s, kept - z, inside)
        ctx.scale_shape, ctx.factor = scale.shape, factor
        return (kept - z) * s

    @staticmethod
    def backward(ctx, dy):
        x, s, q, inside = ctx.saved_tensors
        dx = dy * inside
        ds = dy * torch.where(inside, q - x / s, q)
        if s.numel() == 1:
            ds = ds.sum()
        else:
            ds = ds.sum([d for d in range(x.dim()) if s.shape[d] == 1])
        return dx, ds.reshape(ctx.scale_shape) * ctx.factor, None, None, None, None, None


class Quantised:
    """What QuantizeLinear hands to DequantizeLinear: integers exist in between them alone."""

    def __init__(self, x):
        self.x = x
        self.shape = x.shape

    def dim(self):
        return self.x.dim()


def factor(x, scale, high, is_weight):
    elements = x.numel() if is_weight else x.numel() // x.shape[0]
    return 1 / math.sqrt(elements / scale.numel() * high)
