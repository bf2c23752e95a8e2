"""`anamorph COMMAND ...`. Nothing heavy is imported before it is known what is wanted."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from anamorph.core.errors import UserError, nearest

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "train": "MODEL SOURCE --images TOTAL       train a model on images or sounds, in a folder",
    "resume": "RUN [--images TOTAL]              go on where a training was stopped",
    "sample": "RUN --n 16                        draw new images or sounds",
    "reconstruct": "RUN IMAGE... or SOURCE            encode and decode, and tell the error",
    "interpolate": "RUN IMAGE IMAGE [IMAGE IMAGE]     a strip between two images, a grid between four",
    "mix": "RUN --rows IMAGE... --columns ...  a table of images that share layers of their codes",
    "vary": "RUN IMAGE... --psi -1:1.5         towards the mean and beyond; with --noise, other noise",
    "directions": "RUN [SOURCE] --method pca         ways to go in the latent space, found with labels or without",
    "traverse": "RUN IMAGE... --directions FILE    images moved along directions, and what else changes",
    "project": "RUN IMAGE...                      find or refine the codes of images by optimisation",
    "inpaint": "RUN IMAGE --mask FILE             a part of an image drawn anew, by a prior over its codes",
    "encode": "RUN IMAGE... or SOURCE            write codes to a file",
    "decode": "RUN CODES                         images or sounds from a file of codes",
    "compress": "RUN IMAGE... or SOURCE            images as small files, by a prior over their codes",
    "decompress": "RUN FILE...                       images from files of `compress`",
    "evaluate": "RUN [SOURCE]                      every measure that a model can have, and a report to look at",
    "compare": "RUN RUN... [--data SOURCE]        runs by the same measures, and which differences are no chance",
    "features": "train SOURCE, list, add NAME      the networks that look at images when runs are measured",
    "studio": "[RUN...]                          see, mix and edit in the browser",
    "import": "KIND FILE --out RUN               open the weights of the original code as a run",
    "info": "RUN                               what a run is and how far it has come",
    "models": "[NAME]                            the models, and their place among their relatives",
    "sources": "[SOURCE]                          the data sets known by name, or what a source holds",
    "experiment": "NAME, or list                     run an experiment of docs/results.md",
    "demo": "                                  train a small model in about a minute, and show it",
}

ABOUT = """anamorph: train latent generative models on your own images and sounds, look around in their
latent spaces, and know whether they are any good.

usage: anamorph COMMAND ...

{commands}

SOURCE is a name (`anamorph sources`), a folder of images or of sounds, a .zip, .npz, .npy or
IDX file, optionally with :train, :test or :all behind it. RUN is a run's folder. IMAGE is a file,
seed:7 (a drawn one) or data:12 (one of the run's own held-out ones).
`anamorph COMMAND --help` tells the options. Start with: anamorph demo
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for a mistake of the user's, 1 for a failure, 130 when interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(ABOUT.format(commands="\n".join(f"  {name:<12} {what}" for name, what in COMMANDS.items())))
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"anamorph {version('anamorph')}")
        return 0
    try:
        return _dispatch(words[0], words[1:])
    except UserError as error:
        print(f"error: {error}{_remedy(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output has gone: nothing more is printed, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        told = f"{error.strerror}: {error.filename or ''}" if error.errno else str(error)
        print(f"error: {told}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _remedy(error: UserError) -> str:
    """Where a model lacks a capability, those that have it."""
    capability = getattr(error, "capability", None)
    if capability is None:
        return ""
    from anamorph.catalog import models_with

    return f": {', '.join(models_with(capability)) or 'none'} can"


def _dispatch(command: str, words: list[str]) -> int:
    if command not in COMMANDS:
        raise UserError(f"no command {command!r}: {nearest(command, COMMANDS)}")
    os.environ.setdefault("KMP_WARNINGS", "0")
    module = importlib.import_module(f"anamorph.cli.{'importing' if command == 'import' else command}")
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        result: int = module.main(words)
    return result
