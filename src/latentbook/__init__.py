"""Will the Decoder Listen? The library behind the book: models, training, evaluation, experiments, figures.

Importing `latentbook` alone is cheap: torch and the rest are loaded by the module that needs them.
"""

__version__ = "0.2.0"
