"""Sums arrays over the ranks of a job from Python, with nothing but ctypes and libpaceline_allreduce.so.

    RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 python3 sum_numpy.py &
    RANK=1 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 python3 sum_numpy.py

Uses numpy if it is there and the standard library's array otherwise. PACELINE_LIBRARY names the library where
the loader does not find it.
"""

import array
import ctypes
import os
import sys

try:
    import numpy
except ImportError:
    numpy = None

TYPES = {"f": 0, "d": 1, "i": 2, "q": 3, "l": 3}  # of array and of numpy; PACELINE_F32...


class Error(Exception):
    """What the library says went wrong; `rank` is the one to blame, or -1."""

    def __init__(self, library, code):
        super().__init__(library.paceline_last_error().decode())
        self.code, self.rank = code, library.paceline_last_error_rank()


class Communicator:
    """The ranks of the job that the environment describes (RANK, WORLD_SIZE, mpirun's or srun's)."""

    def __init__(self):
        self.library = ctypes.CDLL(os.environ.get("PACELINE_LIBRARY", "libpaceline_allreduce.so.1"))
        self.library.paceline_last_error.restype = ctypes.c_char_p
        self.handle = ctypes.c_void_p()
        self._call("paceline_from_environment", None, ctypes.byref(self.handle))

    def _call(self, function, *arguments):
        code = getattr(self.library, function)(*arguments)
        if code != 0:
            raise Error(self.library, code)

    def _number(self, function):
        number = ctypes.c_int()
        self._call(function, self.handle, ctypes.byref(number))
        return number.value

    @property
    def rank(self):
        return self._number("paceline_rank")

    @property
    def size(self):
        return self._number("paceline_size")

    def all_reduce(self, values):
        """Sums a numpy array (contiguous) or an array.array over all ranks, in place."""
        if hasattr(values, "dtype"):
            if not values.flags["C_CONTIGUOUS"] or not values.flags["WRITEABLE"]:
                raise ValueError("the array must be contiguous and writeable")
            address, count, type_code = values.ctypes.data, values.size, values.dtype.char
        else:
            address, count = values.buffer_info()
            type_code = values.typecode
        if type_code not in TYPES:
            raise TypeError(f"arrays of type {type_code!r} cannot be summed: use one of {', '.join(TYPES)}")
        data = ctypes.c_void_p(address)
        self._call("paceline_all_reduce", self.handle, data, data, ctypes.c_size_t(count), TYPES[type_code], None)

    def close(self):
        self._call("paceline_close", self.handle)
        self.handle = None


def main():
    try:
        communicator = Communicator()
        rank, size = communicator.rank, communicator.size
        if numpy:
            values = numpy.arange(100000, dtype=numpy.float32).reshape(100, 1000) % 1000 * (rank + 1)
        else:
            values = array.array("f", (i % 1000 * (rank + 1) for i in range(100000)))
        communicator.all_reduce(values)
        flat = values.ravel() if numpy else values
        right = all(flat[i] == i % 1000 * size * (size + 1) // 2 for i in range(100000))
        print(f"rank {rank} of {size}: {'right' if right else 'WRONG'}, with {'numpy' if numpy else 'array'}")
        communicator.close()
        return 0 if right else 2
    except Error as error:
        print(f"{error} (code {error.code}, rank {error.rank})", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
