import numpy as np
import oracle
import pytest
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter
from toys import bent, rigid, shoot, still_life

from renderer.lookup import (
    CRISP,
    FAINT,
    GOOD,
    POOR,
    SOFT,
    WIDE,
    blur,
    composite,
    crisp,
    from_outlines,
    layer,
    look_up,
    make_shot,
    reproject,
    silhouettes,
)
from renderer.paint import coarse, paint, sample, spread
from renderer.rasterise import Caster
from renderer.unify import Sources, unify

SIZE = (120, 96)
GEOMETRY = still_life()
EYES = [(1.0, 1.6, 4.0), (-1.5, 1.2, 3.6), (2.2, 1.4, 3.3), (0.2, 2.0, 3.0)]


def shot_from(eye, vertices):
    camera = oracle.look_at(eye, (0.0, 0.7, 0.0), fov=50)
    caster = Caster(vertices, GEOMETRY.faces)
    return make_shot(shoot(GEOMETRY, camera, vertices, SIZE), GEOMETRY, vertices, caster, "cpu")


SHOTS = [shot_from(eye, bent(GEOMETRY, 0.3 * number)) for number, eye in enumerate(EYES)]
STILL = [shot_from(EYES[0], rigid(GEOMETRY, 0.4 * number)) for number in range(4)]


def seen(shot):
    """A picture uint8 [H, W, 3] that shows of each place what it always shows: a smooth function of its rest position."""
    gbuffer = shot.gbuffer
    place = gbuffer.point[..., :3] / np.linalg.norm(gbuffer.point[..., :3], axis=-1, keepdims=True)
    near = gbuffer.point[..., :3] * np.exp(-np.linalg.norm(gbuffer.point[..., :3], axis=-1, keepdims=True) / 4)
    place = np.where(gbuffer.object[..., None] == GEOMETRY.heroes, near, place)
    hero = gbuffer.triangle >= 0
    corners = GEOMETRY.rest[GEOMETRY.faces[gbuffer.triangle[hero]]]
    place[hero] = np.einsum("pcx,pc->px", corners, gbuffer.barycentrics[hero])
    return np.rint(127 + 100 * np.sin(2 * place + np.array([0, 1, 2]))).astype(np.uint8)


def lookup_of(number, keyframes, shots=SHOTS):
    return look_up(shots[number], [shots[k] for k in keyframes], len(keyframes), GEOMETRY)


def painted(pictures, number, keyframes, shots=SHOTS):
    return paint(pictures[number], *paints_of(pictures, keyframes, shots), lookup_of(number, keyframes, shots))


def paints_of(pictures, keyframes, shots):
    """Painters' pictures and what is coarse of them."""
    paints = torch.from_numpy(np.stack([pictures[k] for k in keyframes]))
    heroes = torch.from_numpy(np.stack([shots[k].gbuffer.triangle >= 0 for k in keyframes]))
    return paints, coarse(paints, heroes)


def averaged(pictures, lookup):
    """The mean of painters' pictures [H, W, 3] by their shares, float [P, 3]."""
    mean = np.zeros((lookup.worth.numel(), 3))
    for k, picture in enumerate(pictures):
        finds = (lookup.painter == k).nonzero()[:, 0]
        mean[lookup.place[finds]] += (
            lookup.share[finds, None] * sample(torch.from_numpy(picture), lookup, finds)
        ).numpy()
    return mean


def share_of(lookup, k):
    """How much of each place painter k paints, [P]."""
    return np.bincount(lookup.place, lookup.share * (lookup.painter == k), lookup.worth.numel())


def test_a_place_is_found_where_another_frame_shows_it():
    """Sampling what another frame shows of a place gives what this one shows of it, to the error of a bilinear sample."""
    place, _, pixel, weight, _ = reproject(SHOTS[0], SHOTS[2], GEOMETRY)
    covered = weight.any(dim=1)
    there = unify(torch.from_numpy(seen(SHOTS[2])).reshape(-1, 3).float(), Sources(pixel, weight, covered))
    error = np.abs(there.numpy() - seen(SHOTS[0]).reshape(-1, 3)[place].astype(float)).max(axis=1)
    obj, covered = SHOTS[0].gbuffer.object.ravel()[place], covered.numpy()
    for number in range(GEOMETRY.heroes + 2):
        mine = covered & (obj == number)
        assert mine.sum() > 50, number
        assert np.quantile(error[mine], 0.99) < 12, number


def test_a_frame_finds_itself():
    place, xy, pixel, weight, density = reproject(SHOTS[1], SHOTS[1], GEOMETRY)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    where = torch.from_numpy(np.stack([x.ravel(), y.ravel()], axis=1)).float()
    covered = weight.any(dim=1)
    found = unify(where, Sources(pixel, weight, covered))
    assert (found - where[place])[covered].abs().max() < 2e-2
    assert (xy - 0.5 - where[place]).abs()[covered].max() < 2e-2
    assert covered.sum() > 0.95 * len(where)
    assert (density > 0).all()


def test_what_is_hidden_is_not_found():
    """A keyframe behind the scene sees other sides of it: nothing that both see differs in what it shows."""
    behind = shot_from((0.0, 1.2, -4.0), bent(GEOMETRY, 0.0))
    hero = torch.from_numpy(SHOTS[0].gbuffer.triangle.ravel() >= 0)
    for other, least, most in ((behind, 0, 0.15), (SHOTS[3], 0.5, 1)):
        place, _, _, weight, _ = reproject(SHOTS[0], other, GEOMETRY)
        assert least <= (hero[place] & weight.any(dim=1)).sum() / hero.sum() < most


def test_shares_of_a_place_sum_to_one_or_nothing():
    lookup = lookup_of(1, [0, 2, 3])
    total, fine = (
        torch.from_numpy(np.bincount(lookup.place, x, SIZE[0] * SIZE[1])) for x in (lookup.share, lookup.fine)
    )
    found = total > 0
    np.testing.assert_allclose(total[found], 1, atol=1e-5)
    np.testing.assert_allclose(fine[found], 1, atol=1e-5)
    np.testing.assert_allclose(lookup.weight.sum(axis=1), 1, atol=1e-5)
    assert lookup.pixel.max() < SIZE[0] * SIZE[1]
    assert (lookup.worth.view(-1)[~found] == 0).all()
    assert lookup.worth.min() >= 0
    assert lookup.worth.max() == pytest.approx(1)


def test_layers_of_paint():
    """What covers hides all below; what covers nothing is not there; the order decides where several would cover."""
    rng = np.random.default_rng(0)
    cover = rng.uniform(size=(50, 4))
    cover[:10, 0], cover[10:20], cover[20:30, 2] = 1, 0, 0
    shares = composite(torch.from_numpy(cover)).numpy()
    assert (shares[:10, 1:] == 0).all()
    assert (shares[10:20] == 0).all()
    assert (shares[20:30, 2] == 0).all()
    np.testing.assert_allclose(shares[20:].sum(axis=1), 1)
    remaining = shares[30:, 1:] / (1 - shares[30:, :1])
    np.testing.assert_allclose(
        composite(torch.from_numpy(cover[30:, 1:])), remaining, err_msg="what lies below is composed by itself"
    )


def test_painters_that_agree_lie_on_top():
    """They hide what others show better, give way where they show next to nothing, and rank among themselves as without others."""
    sure, density = torch.rand(2, 200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sure[:, 1:3] = 1
    density[:20, :2], density[20:40, :2] = 0.45, 0.1
    density[:40, 2:] = torch.tensor([1.0, 0.2, 0.9])
    shares = layer(sure, density, 2)
    assert (shares[:20, 2:] == 0).all(), "they show enough, and the second all that it shows"
    assert (shares[20:40, :2] == 0).all(), "they show too little"
    assert (shares[:40, 3] == 0).all(), "poor beside the best of all"
    alone = layer(sure[:, :2], density[:, :2], 2)
    torch.testing.assert_close(shares[:20, :2], alone[:20])
    among_all = layer(sure, density, 5)
    assert (among_all[:20, 2] > 0).all()

    best = (sure * density).amax(dim=1, keepdim=True)
    cover = sure * ((density / best - POOR) / (GOOD - POOR)).clamp(0, 1)
    torch.testing.assert_close(among_all, crisp(composite(cover), CRISP))


def test_shares_become_crisp():
    """The largest has more, none that matters is lost, and where two are equal neither wins."""
    rng = np.random.default_rng(0)
    shares = composite(torch.from_numpy(rng.uniform(size=(200, 6)) * (rng.uniform(size=(200, 1)) < 0.9))).numpy()
    crisper = crisp(torch.from_numpy(shares), CRISP).numpy()
    covered = shares.any(axis=1)
    assert 0 < covered.sum() < len(shares)
    np.testing.assert_allclose(crisper.sum(axis=1), covered)
    assert (crisper.max(axis=1) >= shares.max(axis=1) - 1e-12).all()
    assert (np.diff(np.take_along_axis(crisper, shares.argsort(axis=1), axis=1), axis=1) >= 0).all()
    assert (crisper[crisper > 0] >= FAINT).all()
    np.testing.assert_allclose(crisp(torch.tensor([[0.5, 0.5]]), CRISP), [[0.5, 0.5]])


def test_painters_that_disagree_do_not_average():
    """Of a place that two see alike the first one's picture is taken, in all frames, however many more there are."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8) for _ in STILL]
    for painters in ([1, 0], [1, 0, 2, 3]):
        lookup = lookup_of(1, painters, STILL)
        clear, hero = STILL[1].clear.view(SIZE[1], SIZE[0]).numpy(), STILL[1].gbuffer.triangle >= 0
        inside = clear >= np.where(hero, *SOFT)
        inside[:, :24] = inside[:, -24:] = inside[:24] = inside[-24:] = False
        assert inside.sum() > 500
        unified = averaged([pictures[painter] for painter in painters], lookup).reshape(pictures[1].shape)
        assert np.median(np.abs(unified - pictures[1])[inside]) < 1
        assert unified[inside].std() > 0.95 * pictures[1][inside].std()


def test_details_do_not_cancel_where_colours_are_mixed():
    """On heroes, where two painters have like shares: their colours are mixed by these, and their details are not."""
    lookup, rng = lookup_of(1, [0, 3]), np.random.default_rng(0)
    flat = [np.full((SIZE[1], SIZE[0], 3), 80 + 60 * (number > 0), np.uint8) for number in range(4)]
    noise = [rng.choice([-20, 20], (SIZE[1], SIZE[0], 1)) for _ in flat]
    first = torch.from_numpy(share_of(lookup, 0)).view(lookup.worth.shape)
    mixed = ((lookup.kind == 0) & (lookup.worth > 0.98) & (first > 0.3) & (first < 0.7)).numpy()
    assert mixed.sum() > 50
    colours = painted(flat, 1, [0, 3])[mixed][:, 0].astype(float)
    np.testing.assert_allclose(colours, (140 - 60 * first.numpy())[mixed], atol=1.5)

    noisy = [(picture + change).astype(np.uint8) for picture, change in zip(flat, noise, strict=True)]
    details = painted(noisy, 1, [0, 3])[mixed][:, 0] - colours
    grey = [np.broadcast_to(100 + noise[painter], flat[0].shape).astype(np.uint8) for painter in (0, 3)]
    mean = averaged(grey, lookup)[mixed.ravel(), 0]
    assert details.std() > 1.15 * mean.std()


def test_what_is_coarse_of_heroes_knows_nothing_of_what_surrounds_them():
    heroes = torch.from_numpy(SHOTS[0].gbuffer.triangle >= 0)[None]
    noise = torch.randint(256, (1, SIZE[1], SIZE[0], 3), generator=torch.Generator().manual_seed(0))
    plain = torch.where(heroes[..., None], 90, noise).byte()
    np.testing.assert_allclose(coarse(plain, heroes)[heroes], 90, rtol=1e-4)


def test_paint_reaches_all_but_outlines():
    """A place that painters see well is painted three pixels from those beside outlines, which are the frame's own."""
    lookup = lookup_of(2, [0, 1, 3], STILL)
    objects = torch.from_numpy(STILL[2].gbuffer.object)
    beside = silhouettes(objects).numpy()
    assert (lookup.worth.numpy()[beside] == 0).all()
    away = (distance_transform_edt(~beside) >= 3) & (objects.numpy() < GEOMETRY.heroes)
    assert away.sum() > 100
    assert np.mean(lookup.worth.numpy()[away] > 0.98) > 0.8


def test_a_steady_clip_stays():
    pictures = [seen(shot) for shot in SHOTS]
    for number in (1, 2):
        error = np.abs(painted(pictures, number, [0, 3]).astype(int) - pictures[number])
        assert np.quantile(error, 0.99) < 12
        assert error.mean() < 1


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_paints_the_same_and_the_same_again():
    """To a level of 255: what is at the edge of being found may be found by one of the two only."""
    pictures = [seen(shot) for shot in SHOTS]
    found = []
    for device in ("cpu", "cuda", "cuda"):
        shots = [make_shot(s.gbuffer, GEOMETRY, s.vertices.numpy(), s.caster, device) for s in SHOTS]
        paints, low = (values.to(device) for values in paints_of(pictures, [0, 3], SHOTS))
        found.append(paint(pictures[2], paints, low, lookup_of(2, [0, 3], shots)))
    assert (np.abs(found[0].astype(int) - found[1]) <= 1).mean() > 0.999
    assert np.array_equal(found[1], found[2])


def test_flicker_goes_where_keyframes_see():
    """Frames that differ in a colour each are one colour, on heroes and dome, where the paint is worth everything."""
    pictures = [np.full((SIZE[1], SIZE[0], 3), 60 * number, np.uint8) for number in range(4)]
    lookup = lookup_of(2, [1], STILL)
    result = painted(pictures, 2, [1], STILL)
    for number in (0, 1, 3):
        sure = (lookup.worth > 0.99).numpy() & (STILL[2].gbuffer.object == number)
        assert sure.sum() > 50, number
        assert (np.abs(result[sure].astype(int) - 60) <= 2).all(), number


def test_what_paint_does_not_reach_takes_its_light():
    """A change of light spreads to all that is beside it, at full strength, and not to what shows another kind of thing."""
    kind = torch.ones(100, 90, dtype=torch.int8)
    kind[:, 50:70], kind[:, 70:] = 2, 0
    worth = torch.zeros(kind.shape)
    worth[10:50, 5:42] = 1
    change = torch.tensor([30.0, -20, 10]).expand(*kind.shape, 3)
    found = spread(change, worth, kind)
    np.testing.assert_allclose(found[20:40, 2:47], change[20:40, 2:47], rtol=1e-5)
    assert (found[85:] == 0).all(), "what is far from all paint stays"
    assert (found[:, 50:] == 0).all()
    worth[10:50, 75:] = 0.5
    np.testing.assert_allclose(spread(change, worth, kind)[:, 70:], (worth[..., None] * change)[:, 70:])


def test_where_nothing_has_moved_the_ground_is_all_painted():
    """A camera that moves around a still scene sees still shadows."""
    shots = [shot_from(eye, bent(GEOMETRY, 0.3)) for eye in EYES]
    pictures = [np.full((SIZE[1], SIZE[0], 3), 60 * number, np.uint8) for number in range(4)]
    for number, painters in ((2, [1, 3]), (0, [3, 2])):
        lookup = lookup_of(number, painters, shots)
        assert not lookup.shaded.any()
        alone = np.stack([share_of(lookup, k) > 0.99 for k in range(len(painters))])
        sure = ((lookup.kind == 1) & (lookup.worth > 0.99)).view(-1).numpy() & alone
        assert sure.sum() > 500
        result = painted(pictures, number, painters, shots).reshape(-1, 3).astype(int)
        for k, painter in enumerate(painters):
            assert (np.abs(result[sure[k]] - 60 * painter) <= 2).all()


@pytest.mark.parametrize("near", [(1.6, 1.6, 2.5), (2.0, 1.6, 2.5)])
def test_painters_give_way_softly(near):
    """Also one that shows places with many more pixels than the other, where its picture ends; no room at borders of all."""
    shots = [shot_from(eye, bent(GEOMETRY, 0.0)) for eye in (near, (-1.0, 2.2, 4.3), (0.0, 2.0, 4.0))]
    lookup = lookup_of(2, [0, 1], shots)
    share = share_of(lookup, 0).reshape(SIZE[1], SIZE[0])
    worth = np.where(distance_transform_edt(lookup.kind == 1) > 9, lookup.worth, 0)
    worth[:6] = worth[-6:] = worth[:, :6] = worth[:, -6:] = 0
    assert share[worth > 0.9].min() < 0.01
    assert share[worth > 0.9].max() > 0.99
    for shares, worths in ((share, worth), (share.T, worth.T)):
        assert (np.abs(np.diff(shares, axis=0)) * np.minimum(worths[1:], worths[:-1])).max() < 0.7


def test_a_painter_gives_way_near_what_hides_ground_and_dome_from_it():
    """Long before their outline, if another painter shows more of them: else one would see the shape of a hero."""
    lookup = lookup_of(3, [0, 3], STILL)
    clear = [STILL[number].clear for number in (0, 3)]
    room = (clear[0] / torch.maximum(*clear).clamp(max=WIDE * min(SIZE))).clamp(max=1)
    seen = (lookup.kind != 0).view(-1) & (lookup.worth.view(-1) > 0.9)
    share = torch.from_numpy(share_of(lookup, 0))
    less = seen & (room < 0.6) & (clear[0] > SOFT[1])
    assert less.sum() > 50
    assert (share[less] < 0.7).all()
    assert (share[seen & (room == 1)] > 0.98).all(), "the first one need not give way where it shows as much"


def test_shadows_stay_on_the_ground_and_its_texture_does_not_change():
    """Light that differs from frame to frame is kept there; a pattern that does is taken from the keyframe."""
    ground = STILL[0].gbuffer.object == GEOMETRY.heroes
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    shadows = [40 * np.exp(-((x - 40 - 15 * number) ** 2 + (y - 80) ** 2) / 800) for number in range(2)]
    pattern = 20.0 * ((x + y) % 2)
    clip = [np.repeat((120 - shadows[0] + pattern)[..., None], 3, 2), np.repeat((120 - shadows[1])[..., None], 3, 2)]
    pictures = [np.rint(picture).astype(np.uint8) for picture in clip]
    result = painted(pictures, 1, [0], STILL)
    worth = lookup_of(1, [0], STILL).worth.numpy()
    inside = (worth > 0.99) & ground & (y > SIZE[1] - 20) & (y < SIZE[1] - 6) & (x > 12) & (x < SIZE[0] - 12)
    assert inside.sum() > 200
    lit = inside & (shadows[0] - shadows[1] < 2)
    detail = result[..., 0] - pictures[1][..., 0].astype(float)
    assert np.corrcoef(detail[lit], pattern[lit])[0, 1] > 0.95
    moved = result[..., 0].astype(float) - pictures[1][..., 0] - (pattern - 10)
    assert np.abs(moved[lit]).mean() < 0.4 * np.abs((shadows[0] - shadows[1])[lit]).mean()


@pytest.mark.parametrize("darker", [0, 40])
def test_a_painters_shadow_leaves_no_edge_on_the_ground_but_its_pattern_does(darker):
    """Where a hero has moved on, nothing is left of its shadow. A painter that is darker everywhere is no shadow."""
    ground = STILL[0].gbuffer.object == GEOMETRY.heroes
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    pattern, shadow = 12.0 * ((x // 2 + y // 2) % 2), np.hypot(x - 70, 2 * (y - 80)) < 20
    clip = [150 - darker + pattern - 60 * shadow, np.full(shadow.shape, 150.0)]
    pictures = [np.repeat(picture[..., None], 3, 2).astype(np.uint8) for picture in clip]
    result = painted(pictures, 1, [0], STILL)[..., 0].astype(float)
    inside = (lookup_of(1, [0], STILL).worth.numpy() > 0.99) & ground & (y > SIZE[1] - 30)
    edge = np.abs(np.hypot(x - 70, 2 * (y - 80)) - 20) < 3
    assert (inside & edge).sum() > 30
    assert np.abs(result - 150)[inside & edge].max() < 8, "of 60"
    far = inside & (distance_transform_edt(~shadow) > 14)
    assert far.sum() > 200
    assert np.corrcoef(result[far], pattern[far])[0, 1] > 0.95


def test_painters_in_different_light_leave_no_edge_on_the_ground():
    """Where one painter's ground ends and the next one's begins, a plain ground stays plain."""
    pictures = [np.full((SIZE[1], SIZE[0], 3), 60 + 40 * number, np.uint8) for number in range(4)]
    result = painted(pictures, 1, [0, 2, 3])[..., 0].astype(float)
    lookup = lookup_of(1, [0, 2, 3])
    first = (share_of(lookup, 0) > 0).reshape(lookup.worth.shape)
    ground = (SHOTS[1].gbuffer.object == GEOMETRY.heroes) & (lookup.worth > 0.5).numpy()
    assert (ground & first).sum() > 200
    assert (ground & ~first).sum() > 20
    assert (result[ground] == 100).all()


@pytest.mark.parametrize(("sigma", "mirror"), [(1.5, True), (6.0, False), (20.0, True)])
def test_a_blur_is_scipys(sigma, mirror):
    """Also where it reaches further than the image is wide."""
    image = torch.rand(30, 90, 4, generator=torch.Generator().manual_seed(0))
    wanted = gaussian_filter(image.numpy(), (sigma, sigma, 0), mode="reflect" if mirror else "constant")
    np.testing.assert_allclose(blur(image, sigma, mirror), wanted, atol=1e-5)


def test_an_outline_is_where_the_object_changes():
    gbuffer = SHOTS[1].gbuffer
    clear = from_outlines(gbuffer)
    obj = gbuffer.object
    change = np.zeros(obj.shape, bool)
    for axis in (0, 1):
        differs = np.diff(obj, axis=axis) != 0
        change |= np.pad(differs, [(0, 1 - axis), (0, axis)]) | np.pad(differs, [(1 - axis, 0), (axis, 0)])
    assert (clear[change] == 0).all()
    outline = np.argwhere(clear == 0)
    for row, column in np.argwhere(clear > 0)[::97]:
        assert clear[row, column] == pytest.approx(np.sqrt(((outline - [row, column]) ** 2).sum(axis=1).min()))
