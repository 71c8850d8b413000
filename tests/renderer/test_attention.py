import math

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention

from renderer.attention import (
    FeatureAttention,
    Injection,
    KeyframePass,
    attended_keyframes,
    blend,
    feature_layers,
    injected_attention,
    keyframe_attention,
    share_attention,
)
from renderer.unify import Sources

G, K, N, T, D, HEADS = 2, 3, 4, 6, 8, 2
ALL = attended_keyframes("own+keyframes", range(N), range(K))
NONE = attended_keyframes("own", range(N), range(K))
ALPHA = 0.6


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def attn():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Attention(D, heads=HEADS, dim_head=D // HEADS, bias=True).requires_grad_(False)


def dense(attn, queries, keys, scale=1.0):
    """Attention of one sequence of queries [T, D] over one of keys [S, D], written out."""
    heads = []
    for head in range(HEADS):
        part = slice(head * D // HEADS, (head + 1) * D // HEADS)
        q, k, v = attn.to_q(queries)[:, part], attn.to_k(keys)[:, part], attn.to_v(keys)[:, part]
        score = scale * q @ k.T / (D // HEADS) ** 0.5
        weight = score.exp() / score.exp().sum(dim=1, keepdim=True)
        heads.append(weight @ v)
    return attn.to_out[0](torch.cat(heads, dim=1))


def pick(frames=N, keyframes=K, seed=3):
    """Sources of random pixels; every third one is not covered."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(0, keyframes * T, (frames * T, 4 * keyframes), generator=generator)
    weight = torch.rand(index.shape, generator=generator)
    covered = torch.arange(frames * T) % 3 > 0
    weight = torch.where(covered[:, None], weight / weight.sum(dim=1, keepdim=True), 0)
    return Sources(index, weight, covered)


def test_keyframes_attend_to_all_keyframes(attn):
    pre = random(G, K, T, D)
    out = keyframe_attention(attn, pre)
    assert out.shape == pre.shape
    for g in range(G):
        for k in range(K):
            torch.testing.assert_close(out[g, k], dense(attn, pre[g, k], pre[g].reshape(K * T, D)))


def test_frames_attend_to_themselves_and_the_keyframes(attn):
    pre, keyframes = random(G, N, T, D), random(G, K, T, D, seed=1)
    out, alone = (
        injected_attention(attn, pre, keyframes, True, ALL),
        injected_attention(attn, pre, keyframes, True, NONE),
    )
    for g in range(G):
        for n in range(N):
            keys = torch.cat([pre[g, n], keyframes[g].reshape(K * T, D)])
            torch.testing.assert_close(out[g, n], dense(attn, pre[g, n], keys))
            torch.testing.assert_close(alone[g, n], dense(attn, pre[g, n], pre[g, n]))


def test_frames_attend_to_the_keyframes_that_they_are_given(attn):
    pre, keyframes, attended = (
        random(G, N, T, D),
        random(G, K, T, D, seed=1),
        torch.tensor([[0, 0], [0, 1], [2, 0], [1, 2]]),
    )
    out, with_own = (injected_attention(attn, pre, keyframes, own, attended) for own in (False, True))
    for g in range(G):
        for n in range(N):
            keys = torch.cat([keyframes[g, k] for k in attended[n]])
            torch.testing.assert_close(out[g, n], dense(attn, pre[g, n], keys))
            torch.testing.assert_close(with_own[g, n], dense(attn, pre[g, n], torch.cat([pre[g, n], keys])))


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_sharpened_attention_is_scaled_by_the_logarithm_of_the_keys(attn, power):
    pre, keyframes = random(G, N, T, D), random(G, K, T, D, seed=1)
    among = keyframe_attention(attn, keyframes, power)
    across = injected_attention(attn, pre, keyframes, True, ALL, power)
    keys = keyframes[1].reshape(K * T, D)
    scale = (math.log(K * T) / math.log(T)) ** power
    torch.testing.assert_close(among[1, 2], dense(attn, keyframes[1, 2], keys, scale))
    scale = (math.log((K + 1) * T) / math.log(T)) ** power
    torch.testing.assert_close(across[1, 3], dense(attn, pre[1, 3], torch.cat([pre[1, 3], keys]), scale))


def test_a_single_frames_tokens_have_nothing_to_sharpen(attn):
    pre = random(G, 1, T, D)
    assert torch.equal(keyframe_attention(attn, pre, 1.0), keyframe_attention(attn, pre))
    alone = [injected_attention(attn, pre, pre, True, NONE, power) for power in (0.0, 1.0)]
    assert torch.equal(*alone)


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_a_layer_may_have_one_token(attn, power):
    pre = random(G, K, 1, D)
    out = keyframe_attention(attn, pre, power)
    scale = math.log(K) / math.log(2) if power else 1.0
    torch.testing.assert_close(out[0, 1], dense(attn, pre[0, 1], pre[0, :, 0], scale))


def test_a_frame_finds_the_anchor_and_the_keyframe_before():
    attended = attended_keyframes("anchor+previous", range(7), [0, 2, 5])
    assert attended.tolist() == [[0, 0], [0, 0], [0, 0], [0, 1], [0, 1], [0, 1], [0, 2]]
    alone = attended_keyframes("anchor+previous", range(5), range(5))
    assert alone.tolist() == [[0, 0], [0, 0], [0, 1], [0, 2], [0, 3]]
    assert attended_keyframes("keyframes", [4], [1, 2]).tolist() == [[0, 1]]
    assert attended_keyframes("own", [4, 5], [1, 2]).shape == (2, 0)


def test_where_all_frames_are_keyframes_the_second_pass_repeats_the_first(attn):
    """Pix2Video: each frame sees what its neighbour was before it was attended to, in the keyframe pass and after."""
    processor, attn.processor = FeatureAttention("layer"), None
    tokens, attended = random(G * N, T, D), attended_keyframes("anchor+previous", range(N), range(N))
    keyframe_pass = KeyframePass(G, attended)
    first = processor(attn, tokens, sharing=keyframe_pass)
    second = processor(attn, tokens, sharing=Injection(keyframe_pass.features, False, attended, {}, 0.0))
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first[1], dense(attn, tokens[1], tokens[0]))
    torch.testing.assert_close(first[3], dense(attn, tokens[3], torch.cat([tokens[0], tokens[2]])))


def test_a_single_keyframe_attends_like_stock_attention(attn):
    pre = random(G, 1, T, D)
    torch.testing.assert_close(keyframe_attention(attn, pre)[:, 0], attn(pre[:, 0]))


def test_blend_pixel_by_pixel():
    out, post, sources = random(G, N, T, D), random(G, K, T, D, seed=1), pick()
    blended = blend(out, post, sources, ALPHA)
    for g in range(G):
        tokens = post[g].reshape(K * T, D)
        for p in range(N * T):
            own = out[g].reshape(N * T, D)[p]
            unified = sum(w * tokens[i] for w, i in zip(sources.weight[p], sources.index[p], strict=True))
            wanted = ALPHA * unified + (1 - ALPHA) * own if sources.covered[p] else own
            torch.testing.assert_close(blended[g].reshape(N * T, D)[p], wanted)
    uncovered = ~sources.covered
    assert torch.equal(blended.reshape(G, -1, D)[:, uncovered], out.reshape(G, -1, D)[:, uncovered]), "to the bit"


def test_with_alpha_one_and_one_keyframe_a_frame_gets_back_its_own_features():
    out, post = random(G, 1, T, D), random(G, 1, T, D, seed=1)
    itself = Sources(torch.arange(T)[:, None], torch.ones(T, 1), torch.arange(T) != 2)
    blended = blend(out, post, itself, 1.0)
    covered = itself.covered
    assert torch.equal(blended[:, 0, covered], post[:, 0, covered])
    assert torch.equal(blended[:, 0, 2], out[:, 0, 2])


@pytest.mark.parametrize(("keys", "alpha"), [("own+keyframes", ALPHA), ("keyframes", 0.0), ("own", ALPHA)])
def test_the_processor_does_both(attn, keys, alpha):
    processor, attn.processor = FeatureAttention("layer"), None
    tokens, keyframes = random(G * N, T, D), random(G * K, T, D, seed=1)
    keyframe_pass = KeyframePass(G, post=alpha > 0)
    kept = processor(attn, keyframes, sharing=keyframe_pass)
    features = keyframe_pass.features["layer"]
    assert torch.equal(features[0], keyframes.view(G, K, T, D))
    torch.testing.assert_close(kept.view(G, K, T, D), keyframe_attention(attn, features[0]))
    assert len(features) == 1 + (alpha > 0), "what no frame takes is not kept"

    sources, own, attended = pick(), keys != "keyframes", NONE if keys == "own" else ALL
    out = processor(attn, tokens, sharing=Injection(keyframe_pass.features, own, attended, {T: sources}, alpha))
    wanted = injected_attention(attn, tokens.view(G, N, T, D), features[0], own, attended)
    if alpha:
        assert torch.equal(features[1], kept.view(G, K, T, D))
        wanted = blend(wanted, features[1], sources, alpha)
    torch.testing.assert_close(out.view(G, N, T, D), wanted)
    assert torch.equal(features[0], keyframes.view(G, K, T, D)), "what is shared stays as it was"


def test_guidance_branches_never_mix(attn):
    """Swapping the branches of everything swaps the results, and a branch does not see the other."""
    processor = FeatureAttention("layer")
    tokens, keys, sources = random(G, N, T, D), random(G, K, T, D, seed=1), pick()

    def both(tokens, keys):
        keyframe_pass = KeyframePass(G)
        processor(attn, keys.flatten(0, 1), sharing=keyframe_pass)
        injection = Injection(keyframe_pass.features, True, ALL, {T: sources}, ALPHA)
        return processor(attn, tokens.flatten(0, 1), sharing=injection).view(G, N, T, D)

    out = both(tokens, keys)
    torch.testing.assert_close(both(tokens.flip(0), keys.flip(0)), out.flip(0))
    changed_tokens, changed_keys = tokens.clone(), keys.clone()
    changed_tokens[0] += 1
    changed_keys[0] -= 2
    torch.testing.assert_close(both(changed_tokens, changed_keys)[1], out[1])


def test_frames_do_not_see_each_other(attn):
    """Only the keyframes are shared: a frame's result does not depend on the others of its chunk, nor on their order."""
    tokens, keys, sources = random(G, N, T, D), random(G, K, T, D, seed=1), pick()
    order = torch.tensor([2, 0, 3, 1])
    pixels = torch.arange(N * T).view(N, T)[order].flatten()
    shuffled = Sources(sources.index[pixels], sources.weight[pixels], sources.covered[pixels])
    out = blend(injected_attention(attn, tokens, keys, True, ALL), keys, sources, ALPHA)
    other = blend(injected_attention(attn, tokens[:, order], keys, True, ALL), keys, shuffled, ALPHA)
    torch.testing.assert_close(other, out[:, order])


@pytest.fixture(scope="module")
def unet(checkpoint):
    return UNet2DConditionModel.from_pretrained(checkpoint, subfolder="unet")


def evaluate(unet, **kwargs):
    with torch.inference_mode():
        return unet(random(2, 4, 8, 8), 500, random(2, 5, 16, seed=1), return_dict=False, **kwargs)[0]


def test_without_sharing_it_is_diffusers_to_the_bit(unet):
    stock = evaluate(unet)
    processors = dict(unet.attn_processors)
    try:
        for layers in ("decoder", "all"):
            share_attention(unet, layers)
            assert torch.equal(evaluate(unet, cross_attention_kwargs={"sharing": None}), stock)
            assert torch.equal(evaluate(unet), stock)
    finally:
        unet.set_attn_processor(processors)


@pytest.mark.parametrize("layers", ["decoder", "all"])
def test_only_feature_layers_take_part(unet, layers):
    processors = dict(unet.attn_processors)
    names = list(processors)
    try:
        features = share_attention(unet, layers)
        assert features == feature_layers(names, layers)
        assert all(".attn1." in name for name in features)
        decoder = [name for name in features if name.startswith("up_blocks.")]
        assert decoder == features if layers == "decoder" else len(decoder) < len(features)
        assert len(features) == (4 if layers == "decoder" else 7)
        keyframe_pass = KeyframePass(1)
        evaluate(unet, cross_attention_kwargs={"sharing": keyframe_pass})
        assert sorted(keyframe_pass.features) == sorted(features)
        assert {pre.shape[2] for pre, _ in keyframe_pass.features.values()} == {64, 16}
        assert list(unet.attn_processors) == names
    finally:
        unet.set_attn_processor(processors)
