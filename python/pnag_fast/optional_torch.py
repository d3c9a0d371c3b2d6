"""What code that lives without torch needs of it: the import, and reading its files safely."""

from __future__ import annotations

import os
import pickle
import zipfile
from typing import Any

from .disk import require_regular
from .errors import FileAccessError, FileFormatError, MissingDependencyError
from .files import StrPath


def require_torch(purpose: str) -> Any:
    """Import torch, or say which extra installs it."""
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError("torch", "train", purpose) from error
    return torch


def load_tensors(path: StrPath) -> object:
    """Read what `torch.save` wrote, without running code of it.

    Raises
    ------
    FileAccessError
        If the file cannot be read, or claims more memory than there is.
    FileFormatError
        If `torch.save` did not write it, or it holds more than tensors and plain containers.
    """
    torch = require_torch(f"reading '{path}'")
    foreign = FileFormatError(
        f"'{path}' is no checkpoint as torch.save writes it; it may be truncated, or another kind "
        "of file"
    )
    too_large = FileAccessError(
        f"cannot read '{path}': it claims more memory than there is; it is damaged, or other "
        "programs hold the memory"
    )
    try:
        require_regular(path, os.stat(path))  # a pipe would be waited for
        # What torch.save packs is as large as its file; packed tightly it could be of any size.
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    raise foreign
        return torch.load(path, map_location="cpu", weights_only=True)
    except (FileAccessError, FileFormatError):
        raise
    except OSError as error:
        raise FileAccessError(f"cannot read '{path}': {error.strerror or error}") from error
    except MemoryError as error:
        raise too_large from error
    except pickle.UnpicklingError as error:
        # Torch's own text goes on to say how to run the code after all.
        if any(sign in str(error) for sign in ("Unsupported global", "Unsupported class")):
            raise FileFormatError(
                f"'{path}' holds more than tensors; what else is in it could run code, so it was "
                "not read: get the file from where Once-for-All publishes it"
            ) from error
        raise foreign from error
    except Exception as error:  # torch raises whatever its unpickler meets
        if isinstance(error, RuntimeError) and "allocate memory" in str(error):
            raise too_large from error
        raise foreign from error
