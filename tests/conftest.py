"""Settings of every test run."""

import os

from hypothesis import settings

os.environ["MODELSURGEON_CACHE"] = "off"  # what is timed here isn't to be found elsewhere

settings.register_profile("modelsurgeon", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("modelsurgeon")
