"""`anamorph COMMAND ...`. Nothing heavy is imported before the command is known."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from anamorph.core.errors import UserError, nearest

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "train": "MODEL SOURCE --images TOTAL       train a model on images or sounds",
    "resume": "RUN [--images TOTAL]              continue a training, or train a finished run further",
    "sample": "RUN --n 16                        sample new images or sounds",
    "reconstruct": "RUN IMAGE... or SOURCE            encode and decode, and measure the error",
    "interpolate": "RUN IMAGE IMAGE [IMAGE IMAGE]     a strip between two images, a grid between four",
    "mix": "RUN --rows IMAGE... --columns ...  a table of images that share layers of their codes",
    "vary": "RUN IMAGE... --psi -1:1.5         truncate towards the mean and beyond; with --noise, vary noise",
    "directions": "RUN [SOURCE] --method pca         find directions in the latent space, with or without labels",
    "traverse": "RUN IMAGE... --directions FILE    move images along directions, and measure side effects",
    "project": "RUN IMAGE...                      find or refine the codes of images by optimisation",
    "inpaint": "RUN IMAGE --mask FILE             sample a part of an image anew, from a prior over its codes",
    "encode": "RUN IMAGE... or SOURCE            write codes to a file",
    "decode": "RUN CODES                         decode a file of codes to images or sounds",
    "compress": "RUN IMAGE... or SOURCE            write images as small files, by a prior over their codes",
    "decompress": "RUN FILE...                       read images from files of `compress`",
    "evaluate": "RUN [SOURCE]                      measure a run by every metric it allows, and write a report",
    "compare": "RUN RUN... [--data SOURCE]        measure runs by the same metrics, and test differences for chance",
    "features": "train SOURCE, list, add NAME      manage the feature networks of FID and other metrics",
    "studio": "[RUN...]                          look at, mix and edit images in the browser",
    "import": "KIND FILE --out RUN               import weights of a model's original code as a run",
    "info": "RUN                               describe a run: model, data, settings, progress",
    "models": "[NAME]                            list the models, and how they differ",
    "sources": "[SOURCE]                          list the data sets known by name, or describe a source",
    "experiment": "NAME, or list                     run an experiment of docs/results.md",
    "demo": "                                  train a small model in about a minute, and show it",
}

ABOUT = """anamorph: train latent generative models on your own images and sounds, explore and edit in
their latent spaces, and measure how good they are.

usage: anamorph COMMAND ...

{commands}

SOURCE is a name (`anamorph sources`), a folder of images or of sounds, or a .zip, .npz, .npy or
IDX file; :train, :test or :all behind it chooses a part. RUN is the folder of a run. IMAGE is a
file, seed:7 (a sample) or data:12 (a held-out example of the run's own data).
`anamorph COMMAND --help` describes the options. Start with: anamorph demo
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 for a failure, 2 for a mistake of the user, 130 when interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(ABOUT.format(commands="\n".join(f"  {name:<12} {usage}" for name, usage in COMMANDS.items())))
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
    except BrokenPipeError:  # the reader of a pipe has closed it: print nothing more, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        message = f"{error.strerror}: {error.filename or ''}" if error.errno else str(error)
        print(f"error: {message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _remedy(error: UserError) -> str:
    """Return the end of a message about a missing capability: which models have it, and whether a prior gives it."""
    capability = getattr(error, "capability", None)
    if capability is None:
        return ""
    from anamorph.catalog import PRIORS, models_with
    from anamorph.core.model import HasPrior, Samples

    models = models_with(capability)
    remedies = [f"{', '.join(models)} can"] if models else []
    if capability in (HasPrior, Samples):
        priors = ", ".join(PRIORS)
        remedies.append(f"train a prior on its codes: `anamorph train PRIOR SOURCE --codes-of RUN` (PRIOR: {priors})")
    return f": {', or '.join(remedies)}" if remedies else ""


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
