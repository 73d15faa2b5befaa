"""Small data sets in their official files."""

from tests.data.conftest import idx_folder, release_folder, svhn_folder  # noqa: F401
