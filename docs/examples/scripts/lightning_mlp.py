"""Sparse parity with PyTorch Lightning: a two-layer MLP that memorizes first and then groks.

The task is that of Merrill, Tsilivis and Shukla (2023): the label is the product of k of n signs.
"""

import lightning as L
import sweeper
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class ParityData(L.LightningDataModule):
    def __init__(self, n=40, k=3, n_train=1000, n_val=1000, batch_size=32, seed=0):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage):
        h = self.hparams
        g = torch.Generator().manual_seed(h.seed)
        x = torch.randint(0, 2, (h.n_train + h.n_val, h.n), generator=g).float() * 2 - 1
        y = x[:, : h.k].prod(dim=1)
        self.train = TensorDataset(x[: h.n_train], y[: h.n_train])
        self.val = TensorDataset(x[h.n_train :], y[h.n_train :])

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return [DataLoader(self.train, batch_size=1000), DataLoader(self.val, batch_size=1000)]


class LitMLP(L.LightningModule):
    def __init__(self, n=40, width=256, lr=0.1, weight_decay=0.01):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(n, width), nn.ReLU(), nn.Linear(width, 1, bias=False), nn.Flatten(0)
        )

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return torch.relu(1 - y * self(x)).mean()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        x, y = batch
        out, name = self(x), ("train", "val")[dataloader_idx]
        self.log(f"{name}_loss", torch.relu(1 - y * out).mean(), add_dataloader_idx=False)
        self.log(f"{name}_acc", (out.sign() == y).float().mean(), add_dataloader_idx=False)

    def configure_optimizers(self):
        h = self.hparams
        return torch.optim.SGD(self.parameters(), lr=h.lr, weight_decay=h.weight_decay)


class PrintMetrics(L.Callback):
    def on_validation_epoch_end(self, trainer, module):
        if trainer.sanity_checking:
            return
        values = ", ".join(f"{k} {v:.3f}" for k, v in trainer.callback_metrics.items())
        print(f"step {trainer.global_step}: {values}")
        run.log(trainer.global_step, trainer.callback_metrics)


if __name__ == "__main__":
    run = sweeper.init(lr=0.1, weight_decay=0.01)
    L.seed_everything(run.seed)
    trainer = L.Trainer(
        max_epochs=200,
        check_val_every_n_epoch=5,
        accelerator="cpu",
        callbacks=[PrintMetrics()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(LitMLP(**run.config), ParityData())
