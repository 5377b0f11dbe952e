"""Grokking of modular addition by a one-layer transformer, after Power et al. and Nanda et al."""

import sweeper
import torch
from torch import nn
from torch.nn import functional as F

P = 29
TRAIN_FRACTION = 0.7
D_MODEL = 64
N_HEADS = 4
D_MLP = 256
LR = 1e-3
WEIGHT_DECAY = 1.0
BETAS = (0.9, 0.98)
EPOCHS = 2000
LOG_EVERY = 50
SEED = 0
run = sweeper.init(P=P, TRAIN_FRACTION=TRAIN_FRACTION, WEIGHT_DECAY=WEIGHT_DECAY, SEED=SEED)
globals().update(run.config)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(D_MODEL, 3 * D_MODEL, bias=False)
        self.out = nn.Linear(D_MODEL, D_MODEL, bias=False)

    def forward(self, x):
        batch, length, _ = x.shape
        heads = self.qkv(x).view(batch, length, 3, N_HEADS, D_MODEL // N_HEADS)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / (D_MODEL // N_HEADS) ** 0.5
        mask = torch.triu(torch.full((length, length), -torch.inf), diagonal=1)
        z = (scores + mask).softmax(dim=-1) @ v
        return self.out(z.transpose(1, 2).reshape(batch, length, D_MODEL))


class Transformer(nn.Module):
    """Reads `a b =` and predicts `a + b mod P` at the last position; no LayerNorm."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(P + 1, D_MODEL)
        self.positions = nn.Parameter(torch.randn(3, D_MODEL) / D_MODEL**0.5)
        self.attention = Attention()
        self.mlp = nn.Sequential(nn.Linear(D_MODEL, D_MLP), nn.ReLU(), nn.Linear(D_MLP, D_MODEL))
        self.unembed = nn.Linear(D_MODEL, P, bias=False)
        nn.init.normal_(self.embed.weight, std=D_MODEL**-0.5)

    def forward(self, tokens):
        x = self.embed(tokens) + self.positions
        x = x + self.attention(x)
        x = x + self.mlp(x)
        return self.unembed(x[:, -1])


def make_data():
    a, b = torch.meshgrid(torch.arange(P), torch.arange(P), indexing="ij")
    tokens = torch.stack([a.flatten(), b.flatten(), torch.full((P * P,), P)], dim=1)
    labels = (tokens[:, 0] + tokens[:, 1]) % P
    order = torch.randperm(P * P)
    n_train = int(TRAIN_FRACTION * P * P)
    train, test = order[:n_train], order[n_train:]
    return (tokens[train], labels[train]), (tokens[test], labels[test])


def loss_and_accuracy(model, data):
    logits = model(data[0])
    accuracy = (logits.argmax(dim=-1) == data[1]).float().mean().item()
    return F.cross_entropy(logits, data[1]), accuracy


torch.manual_seed(SEED)
train, test = make_data()
model = Transformer()
optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY)

for epoch in run.steps(EPOCHS):
    train_loss, train_acc = loss_and_accuracy(model, train)
    if epoch % LOG_EVERY == 0:
        with torch.no_grad():
            test_loss, test_acc = loss_and_accuracy(model, test)
        print(
            f"epoch {epoch:5d}  train loss {train_loss.item():.2e} acc {train_acc:.3f}  "
            f"test loss {test_loss.item():.2e} acc {test_acc:.3f}"
        )
        run.log(epoch, train_acc=train_acc, test_acc=test_acc, test_loss=test_loss)
    optimizer.zero_grad()
    train_loss.backward()
    optimizer.step()
