"""Cameras that frame a hero the way our clips do, and the control image of what they see."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from jobs.pocket import sdf
from jobs.pocket.draws import Draws
from jobs.pocket.shapes import Shapes

COARSE = 4  # rays are first marched as cones through blocks of COARSE x COARSE pixels
COARSE_STEPS, FINE_STEPS = 24, 28
SCOUT = 48  # the resolution of the first look that finds the hero in the picture
FAR = 200.0  # the ground ends here, in units of the hero's bounding radius; its inverse depth there is nearly 0


@dataclass(frozen=True)
class View:
    """A batch of cameras: eye [B, 3], unit rays [B, N, 3] with row 0 at the top, the cosine [B, N] of each with
    the camera axis,
    the fraction [B, 1] of the picture that the hero fills, and `zoom` [B, 1], the half picture's widths per unit at the hero;
    N = resolution²."""

    eye: Tensor
    rays: Tensor
    cosine: Tensor
    fills: Tensor
    resolution: int
    zoom: Tensor


@dataclass(frozen=True)
class Hits:
    """What the rays meet: hero and ground masks [B, N], distance along the ray [B, N], hero normals [B, N, 3]."""

    hero: Tensor
    ground: Tensor
    distance: Tensor
    normal: Tensor
    point: Tensor


def look(draws: Draws, shapes: Shapes, grounded: Tensor, resolution: int) -> View:
    """Random cameras: the hero fills 35-95 % of the picture's width or height, seen from near the horizon if it
    stands on the ground.

    A first, coarse look finds the hero's frame; the picture is then cut out around it by focal length and lens shift.
    """
    u = draws.uniform
    elevation = torch.where(grounded, u(0.02, 0.14, 1) + u(0, 0.3, 1) * draws.chance(0.2, 1), u(-0.25, 0.6, 1))
    azimuth, distance = u(0, 2 * math.pi, 1), u(2.3, 5.5, 1)
    fills = torch.where(draws.chance(0.75, 1), u(0.65, 0.95, 1), u(0.35, 0.7, 1))
    forward = -torch.cat(
        [torch.cos(elevation) * torch.sin(azimuth), torch.sin(elevation), torch.cos(elevation) * torch.cos(azimuth)], -1
    )
    eye = -forward * distance
    eye[:, 1:2] = torch.where(grounded, torch.maximum(eye[:, 1:2], shapes.floor + 0.15), eye[:, 1:2])
    target = u(-0.06, 0.06, 3)
    forward = F.normalize(target - eye, dim=-1)
    right = F.normalize(
        torch.linalg.cross(forward, torch.tensor([[0.0, 1.0, 0.0]], device=eye.device).expand_as(forward)), dim=-1
    )
    up = torch.linalg.cross(right, forward)

    def rays(x: Tensor, y: Tensor) -> Tensor:
        return forward[:, None] + x[..., None] * right[:, None] + y[..., None] * up[:, None]

    x, y = _grid(SCOUT, eye.device)
    reach = eye.norm(dim=-1, keepdim=True)
    whole = 1.05 / (reach**2 - 1).sqrt()
    x, y = x * whole, y * whole
    scouts = F.normalize(rays(x, y), dim=-1)
    end = (reach + 1.1).expand_as(x)
    touched = (
        sdf.march(shapes.rows, eye, scouts, (reach - 1.1).expand_as(x), end, 1.5 * whole / SCOUT, COARSE_STEPS) < end
    )
    left, right_edge = (
        torch.where(touched, x, torch.inf).amin(1, True),
        torch.where(touched, x, -torch.inf).amax(1, True),
    )
    bottom, top = torch.where(touched, y, torch.inf).amin(1, True), torch.where(touched, y, -torch.inf).amax(1, True)
    half = torch.maximum(right_edge - left, top - bottom).clamp(0.02, 4) / 2 / fills
    slack = (half - half * fills) * 0.7
    centre_x, centre_y = ((a + b) / 2 + slack * u(-1, 1, 1) for a, b in ((left, right_edge), (bottom, top)))
    x, y = _grid(resolution, eye.device)
    direction = rays(centre_x.clamp(-2, 2) + x * half, centre_y.clamp(-2, 2) + y * half)
    length = direction.norm(dim=-1)
    return View(eye, direction / length[..., None], 1 / length, fills, resolution, 1 / (reach * half))


def _grid(resolution: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pixel centres in [-1, 1], x to the right and y up, both [1, resolution²], row 0 at the top."""
    steps = (torch.arange(resolution, device=device) + 0.5) / resolution * 2 - 1
    y, x = torch.meshgrid(-steps, steps, indexing="ij")
    return x.reshape(1, -1), y.reshape(1, -1)


def trace(shapes: Shapes, view: View, grounded: Tensor) -> Hits:
    """Sphere-trace heroes and, where grounded [B, 1], the plane that they stand on."""
    batch, count = view.cosine.shape
    blocks, fine = view.resolution // COARSE, view.resolution
    tiles = view.rays.unflatten(1, (blocks, COARSE, blocks, COARSE))
    centres = F.normalize(tiles.mean((2, 4)).reshape(batch, -1, 3), dim=-1)
    # Half the diagonal of a block, as an angle, with room for the wider angles at the centre of the picture.
    cone = (
        1.3 * (tiles[:, :, 0, :, 0] - tiles[:, :, -1, :, -1]).norm(dim=-1).reshape(batch, -1).amax(1, keepdim=True) / 2
    )
    reach = view.eye.norm(dim=-1, keepdim=True)
    start, end = (reach - 1.1).clamp(min=0.02).expand(-1, blocks * blocks), (reach + 1.1).expand(-1, blocks * blocks)
    coarse = sdf.march(shapes.rows, view.eye, centres, start, end, cone, COARSE_STEPS)
    start = coarse.view(batch, blocks, 1, blocks, 1).expand(-1, -1, COARSE, -1, COARSE).reshape(batch, fine * fine)
    limit = (reach + 1.1).expand(-1, count)
    t = sdf.march(shapes.rows, view.eye, view.rays, start, limit, torch.zeros_like(reach), FINE_STEPS)
    point = view.eye[:, None] + view.rays * t[..., None]
    hero = (t < limit) & (sdf.distance(shapes.rows, point) < 4e-3)
    down = view.rays[..., 1]
    plane = (shapes.floor - view.eye[:, 1:2]) / down.clamp(max=-1e-5)
    ground = grounded & (down < -1e-5) & (plane < FAR)
    ground = ground & ~(hero & (t < plane))
    hero = hero & ~(grounded & (down < -1e-5) & (plane < t))
    distance = torch.where(hero, t, torch.where(ground, plane, torch.full_like(t, FAR)))
    normal = normals(shapes, point)
    return Hits(hero, ground, distance, normal, view.eye[:, None] + view.rays * distance[..., None])


def normals(shapes: Shapes, point: Tensor) -> Tensor:
    """Unit gradients [B, N, 3] of the distance at points [B, N, 3], from a tetrahedron of samples."""
    total = torch.zeros_like(point)
    for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        offset = torch.tensor(corner, device=point.device, dtype=point.dtype)
        total = total + sdf.distance(shapes.rows, point + offset * 2e-3)[..., None] * offset
    return F.normalize(total, dim=-1)


def control_image(inverse_depth: Tensor, visible: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """Inverse depth as the networks take it: 0.1 at `far`, 1 at `near` (both inverse depths [B, 1]), 0 where
    nothing is visible."""
    return torch.where(visible, 0.1 + 0.9 * (inverse_depth - far) / (near - far), torch.zeros_like(inverse_depth))


def picture_control(draws: Draws, view: View, hits: Hits) -> Tensor:
    """The control image [B, N] of one picture. A clip's two constants span more than one of its frames does: so
    the largest value
    varies in [0.5, 1] and the far end keeps some slack."""
    visible = hits.hero | hits.ground
    inverse = 1 / (hits.distance * view.cosine).clamp(min=1e-3)
    near = torch.where(visible, inverse, 0).amax(1, keepdim=True)
    far = torch.where(visible, inverse, torch.inf).amin(1, keepdim=True).clamp(max=1e3)
    far = torch.minimum(far, near * 0.999)
    far = (far - draws.chance(0.5, 1) * draws.uniform(0, 0.5, 1) * (near - far)).clamp(min=0)
    largest = torch.where(draws.chance(0.4, 1), draws.uniform(0.5, 1.0, 1), torch.ones_like(near))
    near = far + (near - far) * 0.9 / (largest - 0.1)
    return control_image(inverse, visible, near, far)
