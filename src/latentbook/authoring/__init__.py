"""What keeps the book: its notebooks, the numbers in its prose, the speed they run at."""

from latentbook.authoring.notebooks import NotebookError
from latentbook.authoring.profiles import Profile, profile

__all__ = ["NotebookError", "Profile", "profile"]
