"""Turn a batch of latents by one angle each, and find the angles again by gradient descent.

Run: python examples/rotate_latents.py
"""

import torch

from equikernels.ops import rotate


def main() -> None:
    torch.manual_seed(0)
    # Smooth latents: the finer the content, the nearer the start must be to the right angle.
    z = smooth(torch.randn(4, 8, 4, 4))
    truth = torch.tensor([0.3, -0.5, 0.7, 0.0])  # radians, counter-clockwise
    target = rotate(z, truth)

    theta = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=0.05)
    for _ in range(150):
        loss = (rotate(z, theta) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("angles turned by ", [round(t, 3) for t in truth.tolist()])
    print("angles recovered ", [round(t, 3) for t in theta.tolist()])
    worst = float((theta.detach() - truth).abs().max())
    print(f"largest difference below 0.01 radians: {worst < 0.01}")


def smooth(x: torch.Tensor) -> torch.Tensor:
    """(N, C, 4, 4) to (N, C, 32, 32) by cubic interpolation."""
    return torch.nn.functional.interpolate(x, scale_factor=8, mode="bicubic", align_corners=False)


if __name__ == "__main__":
    main()
