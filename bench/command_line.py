"""What the command lines of bench/ share."""

import argparse
import os
import pathlib

FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130


class Refused(Exception):
    """Something that the user can put right: one sentence, exit status 2."""


class Parser(argparse.ArgumentParser):
    """Answers a wrong argument with one sentence in place of the whole usage."""

    def error(self, message):
        self.exit(BAD_USAGE, f"{self.prog}: {message}; --help shows what there is\n")


def whole_number(least):
    def parse(text):
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {least}")
        return value

    return parse


def write_json(path, text):
    """Whole or not at all. With no text it only tries, so that a bad path does not cost a run."""
    partial = f"{path}.partial-{os.getpid()}"
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(0, "it is a folder")
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
        if text:
            os.replace(partial, path)
    except OSError as error:
        raise Refused(
            f"--json {path} can't be written ({error.strerror}): name a file in a folder that exists "
            "and has room"
        ) from None
    finally:
        pathlib.Path(partial).unlink(missing_ok=True)


def stop_by_signal(*_):
    """A handler that makes SIGTERM end a program as Ctrl-C does, with all that it started."""
    raise KeyboardInterrupt
