"What guards the layers: plain attention, window grids, sizes in any order, gradients, refusals."

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seglab.layers import (
    Attention,
    Block,
    Perceptron,
    PlainViT,
    from_windows,
    resize_codes,
    round_up_side,
    run_blocks,
    to_windows,
    token_grid,
    window_grid,
)
from seglab.pyramid import (
    Doubling,
    FuseLevels,
    PyramidHead,
    SimpleFPN,
    layer_number,
    rename_original,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_attention_equals_torch_and_so_does_its_gradient():
    ours, theirs = Attention(24, heads=4), nn.MultiheadAttention(24, 4, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.proj.weight,
            "out_proj.bias": ours.proj.bias,
        }
    )
    tokens = torch.randn(3, 37, 24, requires_grad=True)
    found, expected = ours(tokens), theirs(tokens, tokens, tokens, need_weights=False)[0]
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(x.square().sum(), tokens)[0] for x in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("grid", "windows"),
    [
        ((28, 28), (2, 2)),
        ((32, 28), (2, 2)),
        ((25, 25), (1, 1)),
        ((42, 14), (3, 1)),
        ((5, 9), (1, 1)),
    ],
)
def test_windows_hold_what_a_crop_holds(grid, windows):
    assert window_grid(grid, patch=16) == windows
    rows, columns = (size // count for size, count in zip(grid, windows, strict=True))
    picture = torch.randn(2, *grid, 3)
    tokens = picture.flatten(1, 2)
    gathered = to_windows(tokens, grid, windows)
    assert torch.equal(from_windows(gathered, grid, windows), tokens)
    crops = [
        picture[b, y : y + rows, x : x + columns].flatten(0, 1)
        for b in range(2)
        for y in range(0, grid[0], rows)
        for x in range(0, grid[1], columns)
    ]
    assert torch.equal(gathered, torch.stack(crops))


@pytest.mark.parametrize("patch", [8, 14, 16, 32])
def test_rounded_sides_are_legal_and_never_far(patch):
    for side in range(1, 1400, 13):
        legal = round_up_side(side, patch)
        assert legal >= side and round_up_side(legal, patch) == legal
        rows, columns = token_grid((legal, legal), patch)
        assert rows * patch == legal and rows == columns
        window_grid((rows, columns), patch)  # must not raise
        # at most one token more in each window than there are whole patches to cover
        windows = window_grid((rows, rows), patch)[0]
        assert legal - side < max(2, windows + 1) * patch


def test_illegal_sides_are_refused_with_a_way_out():
    # sizes the original fails on, some of them with a division by zero
    for size, message in {(700, 700): "704 × 704", (336, 560): "336 × 576"}.items():
        with pytest.raises(ValueError, match="pad the picture") as error:
            token_grid(size, 16)
        legal = tuple(round_up_side(side, 16) for side in size)
        assert f"{legal[0]} × {legal[1]}" in str(error.value), message
    assert token_grid((64, 96), 16) == (4, 6)  # smaller than a window: one window


def test_blocks_in_one_window_are_plain_blocks():
    blocks = nn.ModuleList(Block(12, 3) for _ in range(8))
    tokens = torch.randn(2, 36, 12)
    plain = tokens
    for block in blocks:
        plain = block(plain)
    torch.testing.assert_close(run_blocks(blocks, tokens, (6, 6), (1, 1)), plain)
    assert not torch.allclose(run_blocks(blocks, tokens, (6, 6), (2, 2)), plain)


def test_twelve_blocks_make_two_groups():
    "The sixth and the twelfth see everything: block 5 of a windowed run is fed whole pictures."
    lengths = []
    blocks = nn.ModuleList(Block(4, 1) for _ in range(12))
    for block in blocks:
        block.register_forward_hook(lambda m, i, out: lengths.append(out.shape[1]))
    run_blocks(blocks, torch.randn(1, 16, 4), (4, 4), (2, 2))
    assert [i for i, length in enumerate(lengths) if length == 16] == [5, 11]


def test_impossible_depths_are_refused():
    for depth in (0, 2, 6, 10):
        with pytest.raises(ValueError, match="multiple of 4"):
            PlainViT((4, 4), 8, width=8, depth=depth, heads=2)


def test_codes_are_resized_like_a_picture_and_pass_gradients():
    codes = torch.randn(1, 6 * 4, 5, requires_grad=True)
    resized = resize_codes(codes, (6, 4), (9, 10))
    assert resized.shape == (1, 90, 5)
    picture = codes[0].T.reshape(1, 5, 6, 4)
    expected = F.interpolate(picture, (9, 10), mode="bicubic", align_corners=False)
    torch.testing.assert_close(resized[0].T.reshape(1, 5, 9, 10), expected)
    resized.square().sum().backward()
    assert (codes.grad != 0).all()


@torch.no_grad()
def test_sizes_may_come_in_any_order():
    net = PlainViT((4, 4), 8, width=8, depth=4, heads=2, extra=3, window=16).eval()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    pictures = {
        s: (torch.rand(1, 3, *s), torch.rand(1, 3, *s)) for s in [(32, 32), (64, 16), (48, 80)]
    }
    first = {size: net(*pair) for size, pair in pictures.items()}
    for size in reversed(pictures):
        assert torch.equal(net(*pictures[size]), first[size])
        assert first[size].shape == (1, 8, size[0] // 8, size[1] // 8)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())


def test_checkpointing_changes_memory_only():
    net = PlainViT((8, 8), 8, width=16, depth=8, heads=2, window=32)
    image, extra = torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64)
    gradients = []
    for checkpointing in (False, True):
        net.checkpointing = checkpointing
        net.zero_grad()
        net(image, extra).square().mean().backward()
        gradients.append([weight.grad.clone() for weight in net.parameters()])
    for plain, frugal in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, frugal)


def test_extra_channels_must_fit():
    net = PlainViT((4, 4), 8, width=8, depth=4, heads=2, extra=2)
    with pytest.raises(ValueError, match="extra: axis 2 must be 2"):
        net(torch.rand(1, 3, 32, 32), torch.rand(1, 1, 32, 32))


@pytest.mark.parametrize("grid", [(6, 6), (7, 5), (2, 3)])
def test_pyramid_sizes(grid):
    "An odd grid loses its last row or column in the coarsest map."
    rows, columns = grid
    levels = SimpleFPN(16, (4, 6, 10, 12))(torch.randn(2, 16, rows, columns))
    assert [tuple(level.shape[1:]) for level in levels] == [
        (4, 4 * rows, 4 * columns),
        (6, 2 * rows, 2 * columns),
        (10, rows, columns),
        (12, rows // 2, columns // 2),
    ]


def test_fusing_before_enlarging_equals_the_literal_order():
    fuse = FuseLevels(4, 5).double()
    levels = [torch.randn(2, 5, *s).double() for s in [(28, 20), (14, 10), (7, 5), (3, 2)]]
    large = [F.interpolate(x, (28, 20), mode="bilinear", align_corners=False) for x in levels]
    torch.testing.assert_close(fuse(levels), F.relu(fuse.conv(torch.cat(large, dim=1))))


@pytest.mark.parametrize("offset", [0, 10, 100])
def test_a_merged_doubling_equals_its_layers_and_so_do_its_gradients(offset):
    doubling = Doubling(12)
    for part in doubling.parameters():  # the norms' own weights too
        torch.nn.init.normal_(part, std=0.5)
    literal = lambda x: nn.Sequential.forward(doubling, x)  # noqa: E731
    results = []
    for run, dtype in ((literal, torch.float64), (doubling, torch.float32)):
        doubling.to(dtype)
        torch.manual_seed(1)
        x = (offset + torch.randn(2, 12, 9, 7)).to(dtype).requires_grad_()
        y = run(x)
        push = torch.randn(y.shape).to(dtype)
        gradients = torch.autograd.grad(y, [x, *doubling.parameters()], push)
        results.append([y, *gradients])
    for wanted, found in zip(*results, strict=True):
        scale = wanted.abs().max().item() * (1 + offset)  # what cancels is that much larger
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2e-5 * scale)


def test_a_merged_doubling_is_as_exact_in_bfloat16_as_its_layers():
    doubling, x = Doubling(32), 20 + torch.randn(2, 32, 28, 28)
    with torch.no_grad():
        exact = nn.Sequential.forward(doubling, x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            literal, merged = nn.Sequential.forward(doubling, x), doubling(x.bfloat16())
        assert doubling.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    assert (merged - exact).abs().max() < 2 * (literal - exact).abs().max() < 0.2


def test_a_doubling_can_be_counted_without_being_computed():
    with torch.device("meta"):
        assert Doubling(8)(torch.empty(2, 8, 5, 7)).shape == (2, 4, 10, 14)


def test_dropping_features_is_dropping_weights():
    head = PyramidHead((4, 4), channels=64, classes=3, dropout=0.5)
    features = torch.randn(2, 64, 6, 5)
    torch.manual_seed(3)
    found = head.classify(features)
    torch.manual_seed(3)
    torch.testing.assert_close(found, head.conv_seg(head.dropout(features)))
    assert not torch.allclose(found, head.eval().classify(features), atol=0.1)


def test_a_perceptron_keeps_its_hidden_features_once():
    mlp, tokens = Perceptron(8, 64), torch.randn(5, 8)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        result = mlp(tokens)
    assert kept.count((5, 64)) == 1
    literal = mlp.fc2(F.gelu(mlp.fc1(tokens)))
    wanted = torch.autograd.grad(literal.square().sum(), list(mlp.parameters()))
    found = torch.autograd.grad(result.square().sum(), list(mlp.parameters()))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("upsample", [1, 2, 4])
def test_heads_have_no_idle_parts(upsample):
    levels = SimpleFPN(8, (4, 4, 4, 4))(torch.randn(1, 8, 4, 4))
    head = PyramidHead((4, 4, 4, 4), channels=4, classes=2, upsample=upsample)
    head(levels).square().sum().backward()
    assert all(weight.grad is not None for weight in head.parameters())
    assert any("up_conv2" in name for name, _ in head.named_parameters()) == (upsample == 4)


def test_layer_numbers():
    numbers = {
        "backbone.pos_embed": 0,
        "backbone.patch_embed.proj.bias": 0,
        "backbone.blocks.0.norm1.weight": 1,
        "backbone.blocks.10.attn.qkv.weight": 11,
        "backbone.embed_extra.proj.bias": 13,
        "neck.down_4.0.weight": 13,
        "head.conv_seg.bias": 13,
    }
    assert {name: layer_number(name, depth=12) for name in numbers} == numbers


def test_original_names_leave_out_what_is_idle():
    names = ["backbone.head.weight", "backbone.fc_norm.bias", "backbone.cls_token"]
    names += ["head.up_conv1.0.weight", "head.up_conv2.3.bias", "head.conv_seg.bias"]
    state = {name: torch.zeros(1) for name in names}
    for upsample, left in {1: 5, 2: 4, 4: 3}.items():
        renamed, left_out = rename_original(state, upsample)
        assert len(left_out) == left and set(renamed) | set(left_out) == set(names)


def test_weights_start_as_the_original_s():
    net = PlainViT((28, 28), 16, width=64, depth=4, heads=2)
    assert abs(net.pos_embed.std().item() - 0.02) < 0.001
    for weight, fans in [
        (net.patch_embed.proj.weight, 64 + 768),
        (net.blocks[2].attn.qkv.weight, 64 + 192),
        (net.blocks[3].mlp.fc2.weight, 64 + 256),
    ]:
        limit = (6 / fans) ** 0.5  # Xavier-uniform on the two-dimensional view
        assert 0.95 * limit < weight.abs().max() <= limit
    assert not net.blocks[1].attn.proj.bias.any()
