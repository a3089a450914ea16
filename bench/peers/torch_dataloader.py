"""PyTorch's DataLoader over the shards of a dataset of images, as a peer of `paceline bench data`.

Usage: torch_dataloader.py FOLDER BATCH WORKERS
Prints samples and seconds of the second of two epochs: the workers' start is not counted.
"""

import glob
import os
import sys
import time

try:
    import h5py
    import torch
except ImportError as missing:
    sys.exit(f"{missing}: install python3-h5py and python3-torch")


class Shards(torch.utils.data.Dataset):
    """Images one by one, as people write it: files opened once per worker, a sample by its number."""

    def __init__(self, folder):
        self.paths = sorted(glob.glob(os.path.join(folder, "shard-*.h5")))
        self.first = [0]
        for path in self.paths:
            with h5py.File(path, "r") as file:
                self.first.append(self.first[-1] + len(file["labels"]))
        self.open = {}

    def __len__(self):
        return self.first[-1]

    def __getitem__(self, sample):
        shard = next(i for i, first in enumerate(self.first[1:]) if sample < first)
        if shard not in self.open:
            file = h5py.File(self.paths[shard], "r")
            self.open[shard] = file["values"], file["labels"][:]
        values, labels = self.open[shard]
        at = sample - self.first[shard]
        return torch.from_numpy(values[at]), int(labels[at])


def main():
    folder, batch, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    loader = torch.utils.data.DataLoader(
        Shards(folder), batch_size=batch, shuffle=True, num_workers=workers, persistent_workers=True)
    for epoch in range(2):
        begin = time.perf_counter()
        samples = sum(len(labels) for _, labels in loader)
        seconds = time.perf_counter() - begin
    print(samples, seconds)


if __name__ == "__main__":
    main()
