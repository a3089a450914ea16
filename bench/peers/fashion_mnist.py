"""Fashion-MNIST for the peers, straight from the IDX files of Debian's dataset-fashion-mnist."""

import gzip
import os
import struct
import zlib

import numpy
import torch
from command_line import Refused

FOLDER = "/usr/share/datasets/fashion-mnist"


def read_idx(path, dimensions):
    """A gzipped IDX file of unsigned bytes as an array of so many dimensions."""
    try:
        with gzip.open(path, "rb") as file:
            raw = file.read()
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise Refused(f"{path} can't be read ({reason}): install it with `apt-get install --reinstall "
                      "dataset-fashion-mnist`, or name another folder with --data") from None
    header_bytes = 4 + 4 * dimensions
    if len(raw) < header_bytes or raw[:4] != bytes([0, 0, 8, dimensions]):
        raise Refused(f"{path} is not an IDX file of bytes in {dimensions} dimensions: name a folder of "
                      "Fashion-MNIST's files with --data")
    shape = struct.unpack(f">{dimensions}I", raw[4:header_bytes])
    values = numpy.frombuffer(raw, numpy.uint8, offset=header_bytes)
    if values.size != numpy.prod(shape, dtype=object):
        raise Refused(f"{path} holds {values.size} values where its header says {shape}: restore the file")
    return values.reshape(shape)


class Data:
    """All training images as bytes; only a batch is ever made into floats."""

    def __init__(self, folder):
        images = read_idx(os.path.join(folder, "train-images-idx3-ubyte.gz"), 3)
        labels = read_idx(os.path.join(folder, "train-labels-idx1-ubyte.gz"), 1)
        if images.shape[1:] != (28, 28) or len(images) != len(labels) or labels.max(initial=0) > 9:
            raise Refused(f"{folder} holds {len(labels)} labels up to {labels.max(initial=0)} for images of "
                          f"shape {images.shape}, which is not Fashion-MNIST: name its folder with --data")
        self.images = torch.from_numpy(images.copy()).unsqueeze(1)
        self.labels = torch.from_numpy(labels.astype(numpy.int64))
        self.mean = float(images.mean() / 255)
        self.deviation = float(images.std() / 255)

    def batch(self, chosen):
        """(x / 255 - mean) / deviation of the chosen images, in place."""
        values = self.images[chosen].float()
        values.mul_(1 / (255 * self.deviation)).sub_(self.mean / self.deviation)
        return values, self.labels[chosen]


def batches(data, global_batch, part, parts, seed):
    """Part `part` of `parts` of every global batch, without end, in an order shuffled anew for each epoch."""
    if global_batch > len(data.labels):
        raise Refused(f"--batch {global_batch} is more than the {len(data.labels)} samples that there are")
    own = global_batch // parts
    generator = torch.Generator()
    epoch = 0
    while True:
        generator.manual_seed(seed + epoch)
        order = torch.randperm(len(data.labels), generator=generator)
        for first in range(0, len(order) - global_batch + 1, global_batch):
            begin = first + part * own
            yield data.batch(order[begin:begin + own])
        epoch += 1
