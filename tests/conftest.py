"""Settings of every test run."""

from hypothesis import settings

settings.register_profile("modelsurgeon", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("modelsurgeon")
