"""The networks: torchvision's, and some written for the tests, filled with generated weights."""

import copy
import math

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import generator


class Edsr(nn.Module):
    """Super-resolution by two in the manner of EDSR: residual blocks without norms, scaled by 0.1, and a pixel shuffle."""

    def __init__(self, width=24, blocks=3):
        super().__init__()
        conv = lambda i, o: nn.Conv2d(i, o, 3, padding=1)
        self.register_buffer("mean", torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1))
        self.head = conv(3, width)
        self.blocks = nn.ModuleList(nn.Sequential(conv(width, width), nn.ReLU(), conv(width, width)) for _ in range(blocks))
        self.body = conv(width, width)
        self.up = nn.Sequential(conv(width, 4 * width), nn.PixelShuffle(2))
        self.tail = conv(width, 3)

    def forward(self, x):
        x = head = self.head(x - self.mean)
        for block in self.blocks:
            x = x + 0.1 * block(x)
        return self.tail(self.up(self.body(x) + head)) + self.mean


class UNet(nn.Module):
    """Down by max-pooling, up by a transposed convolution and by bilinear interpolation, joined by concatenation."""

    def __init__(self, width=12):
        super().__init__()

        def block(i, o, norm, activation):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=norm is not nn.BatchNorm2d), norm(o), activation)

        self.down1 = block(3, width, nn.BatchNorm2d, nn.LeakyReLU(0.1))
        self.down2 = block(width, 2 * width, nn.BatchNorm2d, nn.PReLU(2 * width))
        self.bottom = nn.Sequential(
            nn.ReflectionPad2d(2),
            nn.Conv2d(2 * width, 4 * width, 3, dilation=2, groups=2),
            nn.InstanceNorm2d(4 * width, affine=True),
            nn.SiLU(),
        )
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.join2 = block(4 * width, 2 * width, lambda o: nn.GroupNorm(4, o), nn.GELU())
        self.squeeze = nn.Conv2d(2 * width, width, 1)
        self.join1 = block(2 * width, width, nn.BatchNorm2d, nn.Hardswish())
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x):
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        x = self.bottom(F.avg_pool2d(second, 2))
        x = self.join2(torch.cat([self.up2(x), second], 1))
        x = F.interpolate(self.squeeze(x), scale_factor=2, mode="bilinear", align_corners=False)
        return torch.sigmoid(self.head(self.join1(torch.cat([x, first], 1))))


class CifarBlock(nn.Module):
    """A basic block; shortcut A subsamples and pads channels with zeros, B is a 1×1 convolution with a norm."""

    def __init__(self, inputs, planes, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        self.pads = 0
        if stride != 1 or inputs != planes:
            if shortcut == "A":
                self.pads = planes // 4
            else:
                self.shortcut = nn.Sequential(nn.Conv2d(inputs, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        skip = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pads, self.pads)) if self.pads else self.shortcut(x)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + skip)


class CifarResNet(nn.Module):
    """ResNet of `depth` = 6n + 2 layers for CIFAR-10 (He et al., section 4.2), parameters named as in the checkpoints that are about."""

    def __init__(self, depth, shortcut):
        super().__init__()
        n = (depth - 2) // 6
        stage = lambda i, o, stride: nn.Sequential(*(CifarBlock(o if k else i, o, 1 if k else stride, shortcut) for k in range(n)))
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = stage(16, 16, 1)
        self.layer2 = stage(16, 32, 2)
        self.layer3 = stage(32, 64, 2)
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


def build(name):
    """The network of that name."""
    if name == "edsr":
        return Edsr()
    if name == "unet":
        return UNet()
    if name.startswith("cifar-resnet"):
        depth = name.removeprefix("cifar-resnet")
        return CifarResNet(int(depth[:-1]), depth[-1].upper())
    with torch.device("meta"):  # Their initialisation takes longer than all else, and is overwritten.
        model = getattr(torchvision.models, name)(weights=None, **({"init_weights": False} if name.startswith("vgg") else {}))
    return model.to_empty(device="cpu")


def fill(model, case, x):
    """Generates all parameters and buffers of the model, so that activations keep their scale on the way: norms are told the variance
    that they meet when `x` is run. Gives the manifest: name, shape, and centre and amplitude (none for integers, which are zero)."""
    model.eval()
    state = model.state_dict()
    seeds = {name: generator.seed_of(case) + 1 + i for i, name in enumerate(state)}
    recipes = {}

    def put(name, centre, amplitude):
        centre, amplitude = generator.digits(centre), generator.digits(amplitude)
        recipes[name] = (centre, amplitude)
        state[name].copy_(torch.from_numpy(generator.tensor(seeds[name], tuple(state[name].shape), centre, amplitude)))

    def meet(module, inputs, prefix):
        variance = float(inputs[0].transpose(0, 1).flatten(1).var(1).mean())
        put(prefix + "running_mean", 0, 0.5 * math.sqrt(variance))
        put(prefix + "running_var", variance, 0.4 * variance)

    hooks = []
    for path, module in model.named_modules():
        prefix = path + "." if path else ""
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)):
            fan_in = module.weight.shape[0] if isinstance(module, nn.ConvTranspose2d) else module.weight[0].numel()
            put(prefix + "weight", 0, math.sqrt(6 / fan_in))
            if module.bias is not None:
                put(prefix + "bias", 0, 0.3)
        elif isinstance(module, (nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm)):
            put(prefix + "weight", 1, 0.4)
            put(prefix + "bias", 0, 0.4)
            if isinstance(module, nn.BatchNorm2d):
                hooks.append(module.register_forward_pre_hook(lambda m, i, prefix=prefix: meet(m, i, prefix)))
        elif isinstance(module, nn.PReLU):
            put(prefix + "weight", 0.2, 0.15)
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    for name, values in state.items():
        if not values.is_floating_point():
            values.zero_()
    unknown = {n for n, v in state.items() if v.is_floating_point()} - set(recipes) - {"mean"}
    assert not unknown, unknown
    return [(name, list(v.shape), *recipes.get(name, (None, None))) for name, v in state.items()]


def outputs(model, x):
    """What the network gives, computed in f64."""
    with torch.no_grad():
        return copy.deepcopy(model).double()(x.double()).float().numpy()
