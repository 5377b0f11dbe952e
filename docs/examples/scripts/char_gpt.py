"""A small character-level GPT, trained on the manual pages that ship with Python (pydoc's topics).

python char_gpt.py --n_layer 2 --dropout 0.1
"""

import argparse
import math
import time
from pydoc_data.topics import topics

import sweeper
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, n_embd, n_head, dropout):
        super().__init__()
        self.n_head, self.dropout = n_head, dropout
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.qkv = nn.Linear(n_embd, 3 * n_embd, bias=False)
        self.proj = nn.Linear(n_embd, n_embd, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (
            t.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
            for t in self.qkv(self.ln_1(x)).split(C, dim=2)
        )
        p = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        x = x + self.drop(self.proj(y.transpose(1, 2).reshape(B, T, C)))
        return x + self.drop(self.mlp(self.ln_2(x)))


class GPT(nn.Module):
    def __init__(self, vocab_size, block_size, n_layer, n_head, n_embd, dropout):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, n_embd)
        self.positions = nn.Embedding(block_size, n_embd)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(n_embd, n_head, dropout) for _ in range(n_layer)))
        self.ln_f = nn.LayerNorm(n_embd)
        self.head = nn.Linear(n_embd, vocab_size, bias=False)
        self.head.weight = self.tokens.weight
        self.apply(self.init_weights)

    @staticmethod
    def init_weights(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, idx, targets):
        pos = torch.arange(idx.shape[1], device=idx.device)
        x = self.drop(self.tokens(idx) + self.positions(pos))
        logits = self.head(self.ln_f(self.blocks(x)))
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        accuracy = (logits.argmax(-1) == targets).float().mean()
        return loss, accuracy


def get_batch(data, args):
    start = torch.randint(len(data) - args.block_size - 1, (args.batch_size,))
    x = torch.stack([data[i : i + args.block_size] for i in start])
    y = torch.stack([data[i + 1 : i + 1 + args.block_size] for i in start])
    return x.to(args.device), y.to(args.device)


@torch.no_grad()
def estimate(model, data, args):
    model.eval()
    results = torch.tensor([model(*get_batch(data, args)) for _ in range(args.eval_iters)])
    model.train()
    return results.mean(dim=0).tolist()


def learning_rate(it, args):
    """Linear warm-up, then a cosine down to a tenth."""
    if it < args.warmup_iters:
        return args.lr * (it + 1) / args.warmup_iters
    ratio = (it - args.warmup_iters) / max(1, args.max_iters - args.warmup_iters)
    return args.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * ratio)))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--max_chars", type=int, default=400_000, help="length of the text")
parser.add_argument("--block_size", type=int, default=64)
parser.add_argument("--batch_size", type=int, default=16)
parser.add_argument("--n_layer", type=int, default=2)
parser.add_argument("--n_head", type=int, default=4)
parser.add_argument("--n_embd", type=int, default=64)
parser.add_argument("--dropout", type=float, default=0.0)
parser.add_argument("--lr", type=float, default=3e-3)
parser.add_argument("--weight_decay", type=float, default=0.1)
parser.add_argument("--warmup_iters", type=int, default=50)
parser.add_argument("--max_iters", type=int, default=1000)
parser.add_argument("--eval_interval", type=int, default=100)
parser.add_argument("--eval_iters", type=int, default=10)
parser.add_argument("--seed", type=int, default=1337)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
run = sweeper.init(parser)
args = run.config

torch.manual_seed(args.seed)
text = "\n".join(topics[name] for name in sorted(topics))[: args.max_chars]
chars = sorted(set(text))
data = torch.tensor([chars.index(c) for c in text])
n = int(0.9 * len(data))
train_data, val_data = data[:n], data[n:]

model = GPT(len(chars), args.block_size, args.n_layer, args.n_head, args.n_embd, args.dropout)
model.to(args.device)
decayed = [p for p in model.parameters() if p.dim() >= 2]
others = [p for p in model.parameters() if p.dim() < 2]
optimizer = torch.optim.AdamW(
    [{"params": decayed, "weight_decay": args.weight_decay}, {"params": others, "weight_decay": 0}],
    lr=args.lr,
    betas=(0.9, 0.99),
)
print(f"{len(text):,} characters, {sum(p.numel() for p in model.parameters()):,} parameters")

start_time = time.time()
for it in range(args.max_iters + 1):
    if it % args.eval_interval == 0 or it == args.max_iters:
        train_loss, train_acc = estimate(model, train_data, args)
        val_loss, val_acc = estimate(model, val_data, args)
        print(
            f"iter {it}: train loss {train_loss:.4f}, val loss {val_loss:.4f}, "
            f"val accuracy {val_acc:.3f}, {time.time() - start_time:.1f} s"
        )
        run.log(it, train_loss=train_loss, val_loss=val_loss, train_acc=train_acc, val_acc=val_acc)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(it, args)
    loss, _ = model(*get_batch(train_data, args))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
